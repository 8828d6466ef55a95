#include "providers/kubernetes/objects_sync.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/log.h"
#include "kube/object.h"

namespace k8sgpu::providers::kubernetes {
namespace {

// A copy may be changed by somebody between our read and our write; more often than this is no accident.
constexpr int kAttempts = 3;

kube::Resource resource_of(LocalKind kind) {
    return kind == LocalKind::Secret ? kube::resources::kSecrets : kube::resources::kConfigMaps;
}

std::string describe(LocalKind kind, std::string_view name) {
    return fmt::format("{} \"{}\"", kind == LocalKind::Secret ? "secret" : "configmap", name);
}

std::string type_of(LocalKind kind, const Json& object) {
    if (kind != LocalKind::Secret) return {};
    return string_at(object, {"type"}, "Opaque");
}

}  // namespace

Json copy_of(LocalKind kind, const Json& source, const OwnerMark& owner,
             const std::string& remote_namespace) {
    const std::string ns = kube::namespace_of(source);
    const std::string name = kube::name_of(source);
    Json metadata = {{"name", copy_name(owner, kind, ns, name)}, {"namespace", remote_namespace}};
    mark_copy(metadata, owner, ns, name);
    Json copy = {{"apiVersion", "v1"},
                 {"kind", kind == LocalKind::Secret ? "Secret" : "ConfigMap"},
                 {"metadata", std::move(metadata)}};
    for (const char* field : {"data", "binaryData"}) {
        if (const Json& content = object_at(source, {field}); !content.empty()) copy[field] = content;
    }
    if (bool_at(source, {"immutable"})) copy["immutable"] = true;
    if (kind == LocalKind::Secret) copy["type"] = type_of(kind, source);
    return copy;
}

bool same_content(LocalKind kind, const Json& a, const Json& b) {
    return object_at(a, {"data"}) == object_at(b, {"data"}) &&
           object_at(a, {"binaryData"}) == object_at(b, {"binaryData"}) &&
           bool_at(a, {"immutable"}) == bool_at(b, {"immutable"}) && type_of(kind, a) == type_of(kind, b);
}

class ObjectCopies::Turn {
  public:
    static Result<Turn> take(ObjectCopies& copies, const ObjectKey& key, const CallContext& ctx) {
        auto state = copies.state_.lock();
        const bool free = state.wait_until(ctx.clock(), copies.free_, ctx.deadline(), ctx.stop(),
                                           [&] { return !state->busy.contains(key); });
        if (!free) {
            if (auto alive = ctx.check(); !alive) return fail(alive.error());
            return fail(ErrorKind::Timeout, "deadline passed");
        }
        state->busy.insert(key);
        return Turn(copies, key);
    }
    Turn(Turn&& other) noexcept
        : copies_(std::exchange(other.copies_, nullptr)), key_(std::move(other.key_)) {}
    Turn& operator=(Turn&&) = delete;
    ~Turn() {
        if (copies_ == nullptr) return;
        copies_->state_.lock()->busy.erase(key_);
        copies_->free_.notify_all();
    }

  private:
    Turn(ObjectCopies& copies, ObjectKey key) : copies_(&copies), key_(std::move(key)) {}
    ObjectCopies* copies_;
    ObjectKey key_;
};

Result<void> ObjectCopies::ensure(LocalKind kind, const Json& source, const std::string& pod_uid,
                                  const CallContext& ctx) {
    const Json wanted = copy_of(kind, source, owner_, namespace_);
    const ObjectKey key{kind, kube::name_of(wanted)};
    state_.lock()->held[pod_uid].insert(key);
    auto turn = Turn::take(*this, key, ctx);
    if (!turn) return fail(turn.error());
    if (auto made = make(kind, wanted, ctx); !made) {
        return fail(made.error().with_context("copying " + describe(kind, kube::name_of(source)) +
                                              " to the tenant namespace"));
    }
    state_.lock()->seen.insert(key);
    return {};
}

// Creating first saves a read for the first pod that uses an object, reading first a refused write for
// others.
Result<void> ObjectCopies::make(LocalKind kind, const Json& wanted, const CallContext& ctx) {
    const std::string name = kube::name_of(wanted);
    bool create = !state_.lock()->seen.contains({kind, name});
    Error last;
    for (int attempt = 0; attempt < 2 * kAttempts; ++attempt, create = !create) {
        if (create) {
            auto created = remote_.create(resource_of(kind), namespace_, wanted, ctx);
            if (created) return {};
            last = created.error();
            if (last.kind != ErrorKind::AlreadyExists) return fail(last);
        } else {
            auto existing = remote_.get(resource_of(kind), namespace_, name, ctx);
            if (existing) {
                auto repaired = repair(kind, *existing, wanted, ctx);
                if (repaired) return {};
                last = repaired.error();
                // Gone or changed in between, or deleted by us because it cannot be changed: once more.
                const bool again = last.kind == ErrorKind::NotFound || last.kind == ErrorKind::Conflict;
                if (!again) return fail(last);
            } else {
                last = existing.error();
                if (last.kind != ErrorKind::NotFound) return fail(last);
            }
        }
    }
    return fail(last);
}

Result<void> ObjectCopies::repair(LocalKind kind, const Json& existing, Json wanted, const CallContext& ctx) {
    const std::string name = kube::name_of(wanted);
    if (!is_our_copy(existing, kind, owner_)) {
        return fail(ErrorKind::Forbidden,
                    fmt::format("{} in namespace {} does not carry this node's owner mark and is left alone; "
                                "delete it there if nobody needs it",
                                describe(kind, name), namespace_));
    }
    if (same_content(kind, existing, wanted)) return {};
    const bool fixed = bool_at(existing, {"immutable"}) || type_of(kind, existing) != type_of(kind, wanted);
    if (fixed) {
        // Running pods keep what they have mounted; the next attempt creates it anew.
        auto removed = remote_.remove(resource_of(kind), namespace_, name,
                                      {.uid = kube::uid_of(existing), .grace = {}}, ctx);
        if (!removed && removed.error().kind != ErrorKind::NotFound) return removed;
        return fail(ErrorKind::NotFound, "replacing an immutable copy");
    }
    wanted["metadata"]["resourceVersion"] = kube::resource_version_of(existing);
    auto replaced = remote_.replace(resource_of(kind), namespace_, name, wanted, ctx);
    if (!replaced) return fail(replaced.error());
    return {};
}

void ObjectCopies::release(const std::string& pod_uid) {
    state_.lock()->held.erase(pod_uid);
}

bool ObjectCopies::held(const ObjectKey& key) const {
    auto state = state_.lock();
    return std::any_of(state->held.begin(), state->held.end(),
                       [&](const auto& entry) { return entry.second.contains(key); });
}

Result<bool> ObjectCopies::collect_one(const ObjectKey& key, const Json& copy,
                                       const std::function<bool(const ObjectKey&)>& in_use,
                                       const CallContext& ctx) {
    auto turn = Turn::take(*this, key, ctx);
    if (!turn) return fail(turn.error());
    if (held(key) || in_use(key)) return false;
    auto removed = remote_.remove(resource_of(key.first), namespace_, key.second,
                                  {.uid = kube::uid_of(copy), .grace = {}}, ctx);
    const bool absent = !removed && (removed.error().kind == ErrorKind::NotFound ||
                                     removed.error().kind == ErrorKind::Conflict);
    if (!removed && !absent) return fail(removed.error());
    state_.lock()->seen.erase(key);
    log().debug("collected the copy {} which no pod uses", describe(key.first, key.second));
    return true;
}

Result<std::size_t> ObjectCopies::collect(const std::function<bool(const ObjectKey&)>& in_use,
                                          const CallContext& ctx) {
    std::size_t count = 0;
    for (const LocalKind kind : {LocalKind::ConfigMap, LocalKind::Secret}) {
        kube::ListOptions options;
        options.label_selector = mark_selector(owner_);
        options.limit = 500;
        auto copies = remote_.list_all(resource_of(kind), namespace_, options, ctx);
        if (!copies) return fail(copies.error().with_context("listing copies in the tenant namespace"));
        for (const Json& copy : copies->items) {
            if (!is_our_copy(copy, kind, owner_)) continue;
            auto collected = collect_one({kind, kube::name_of(copy)}, copy, in_use, ctx);
            if (!collected) return fail(collected.error());
            if (*collected) ++count;
        }
    }
    return count;
}

}  // namespace k8sgpu::providers::kubernetes
