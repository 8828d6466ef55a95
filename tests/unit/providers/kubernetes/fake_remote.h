// A small remote API server for tests: pods, ConfigMaps, Secrets and the like in one namespace, with what the
// provider relies on: UIDs, AlreadyExists, UID preconditions, graceful deletion of pods that are on a
// machine, label selectors, and watches that tell of every change. Thread-safe.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "common/encoding.h"
#include "common/json.h"
#include "kube/testing/fake_transport.h"

namespace k8sgpu::providers::kubernetes {

class FakeRemote final : public kube::Transport {
  public:
    // An answer instead of the server's own, or nullopt. Runs before anything changes. `after` runs
    // afterwards: the effect happens although the caller sees the error.
    using Fault = std::function<std::optional<Result<kube::Response>>(const kube::Request&)>;
    void set_fault(Fault before, Fault after = {}) {
        std::lock_guard lock(mutex_);
        before_ = std::move(before);
        after_ = std::move(after);
    }
    kube::FakeTransport& scripted() {
        return scripted_;
    }  // answers upgrades and streams that are not watches

    std::vector<Json> all(const std::string& plural) {
        std::lock_guard lock(mutex_);
        std::vector<Json> objects;
        for (const auto& [name, object] : objects_[plural]) objects.push_back(object);
        return objects;
    }
    Json find(const std::string& plural, const std::string& name) {
        std::lock_guard lock(mutex_);
        const auto found = objects_[plural].find(name);
        return found == objects_[plural].end() ? Json() : found->second;
    }
    void put(const std::string& plural, Json object) {
        std::lock_guard lock(mutex_);
        const std::string name = string_at(object, {"metadata", "name"});
        const bool fresh = !objects_[plural].contains(name);
        if (string_at(object, {"metadata", "uid"}).empty()) object["metadata"]["uid"] = new_uid();
        store(plural, name, std::move(object), fresh ? "ADDED" : "MODIFIED");
    }
    void edit(const std::string& plural, const std::string& name, const std::function<void(Json&)>& change) {
        std::lock_guard lock(mutex_);
        Json object = objects_[plural].at(name);
        const Json before = object;
        change(object);
        store(plural, name, std::move(object), "MODIFIED", &before);
    }
    void erase(const std::string& plural, const std::string& name) {
        std::lock_guard lock(mutex_);
        erase_locked(plural, name);
    }
    std::vector<std::string> calls(const std::string& method) {
        std::lock_guard lock(mutex_);
        std::vector<std::string> paths;
        for (const kube::Request& request : requests_) {
            if (request.method == method) paths.push_back(request.path);
        }
        return paths;
    }
    std::vector<kube::Request> requests() {
        std::lock_guard lock(mutex_);
        return requests_;
    }
    // Returns once somebody watches these; false after ten real seconds.
    bool wait_for_watch(const std::string& plural) {
        std::unique_lock lock(mutex_);
        return watched_.wait_for(lock, std::chrono::seconds(10), [&] {
            return std::any_of(watches_.begin(), watches_.end(),
                               [&](const Watch& w) { return w.plural == plural; });
        });
    }
    Result<kube::Response> send(const kube::Request& request, const CallContext& ctx) override {
        if (auto alive = ctx.check(); !alive) return fail(alive.error());
        std::lock_guard lock(mutex_);
        requests_.push_back(request);
        if (before_) {
            if (auto answer = before_(request)) return *answer;
        }
        kube::Response response = serve(request);
        if (after_) {
            if (auto answer = after_(request)) return *answer;
        }
        return response;
    }
    Result<std::unique_ptr<kube::ResponseStream>> open(const kube::Request& request,
                                                       const CallContext& ctx) override {
        if (request.path.find("watch=true") == std::string::npos) return scripted_.open(request, ctx);
        std::lock_guard lock(mutex_);
        requests_.push_back(request);
        if (before_) {
            if (auto answer = before_(request)) {
                if (!*answer) return fail(answer->error());
                auto refusal = std::make_shared<kube::ScriptedStream>();
                refusal->status = (*answer)->status;
                refusal->push((*answer)->body);
                refusal->end();
                return std::unique_ptr<kube::ResponseStream>(std::make_unique<Stream>(refusal));
            }
        }
        auto stream = std::make_shared<kube::ScriptedStream>();
        watches_.push_back({parse(request).plural, parse(request).query["labelSelector"], stream});
        // What happened since the version asked for.
        const std::int64_t since = std::stoll("0" + parse(request).query["resourceVersion"]);
        for (const Change& change : changes_) {
            if (change.version > since) tell(watches_.back(), change);
        }
        watched_.notify_all();
        return std::unique_ptr<kube::ResponseStream>(std::make_unique<Stream>(stream));
    }
    Result<kube::Upgraded> upgrade(const kube::Request& request, const CallContext& ctx) override {
        return scripted_.upgrade(request, ctx);
    }

    static kube::Response status(int code, const std::string& reason, const std::string& message) {
        return {code,
                {},
                dump_json({{"kind", "Status"},
                           {"status", "Failure"},
                           {"reason", reason},
                           {"message", message},
                           {"code", code}})};
    }

  private:
    struct Stream final : kube::ResponseStream {
        explicit Stream(std::shared_ptr<kube::ScriptedStream> s) : script(std::move(s)) {}
        int status() const override { return script->status; }
        const kube::Headers& headers() const override { return script->headers; }
        Result<std::string> next(const CallContext& ctx) override { return script->next(ctx); }
        void cancel() override { script->cancel(); }
        std::shared_ptr<kube::ScriptedStream> script;
    };
    struct Watch {
        std::string plural, selector;
        std::shared_ptr<kube::ScriptedStream> stream;
    };
    struct Change {
        std::int64_t version;
        std::string plural, type;
        Json object, before;
    };
    struct Path {
        std::string plural, name, subresource;
        std::map<std::string, std::string> query;
    };

    static Path parse(const kube::Request& request) {
        Path path;
        const std::size_t question = request.path.find('?');
        std::vector<std::string> parts;
        std::string part;
        for (const char c : request.path.substr(0, question) + "/") {
            if (c != '/') {
                part += c;
            } else if (!part.empty()) {
                parts.push_back(part);
                part.clear();
            }
        }
        // api v1 namespaces <ns> <plural> [name [subresource]]
        path.plural = parts.size() > 4 ? parts[4] : "";
        path.name = parts.size() > 5 ? parts[5] : "";
        path.subresource = parts.size() > 6 ? parts[6] : "";
        std::string rest = question == std::string::npos ? "" : request.path.substr(question + 1) + "&";
        while (!rest.empty()) {
            const std::string pair = rest.substr(0, rest.find('&'));
            rest.erase(0, pair.size() + 1);
            const std::size_t equals = pair.find('=');
            path.query[pair.substr(0, equals)] = url_decode(pair.substr(equals + 1), true).value_or("");
        }
        return path;
    }
    static bool selected(const Json& object, std::string selector) {
        if (object.is_null()) return false;
        selector += ",";
        while (selector.size() > 1) {
            const std::string term = selector.substr(0, selector.find(','));
            selector.erase(0, term.size() + 1);
            const std::size_t equals = term.find('=');
            if (equals == std::string::npos) continue;
            if (string_at(object, {"metadata", "labels", term.substr(0, equals)}) !=
                term.substr(equals + 1)) {
                return false;
            }
        }
        return true;
    }

    std::string new_uid() { return fmt::format("remote-uid-{}", ++uids_); }

    void store(const std::string& plural, const std::string& name, Json object, const std::string& type,
               const Json* before = nullptr) {
        object["metadata"]["resourceVersion"] = std::to_string(++version_);
        changes_.push_back({version_, plural, type, object, before == nullptr ? Json() : *before});
        objects_[plural][name] = std::move(object);
        for (Watch& watch : watches_) tell(watch, changes_.back());
    }
    void erase_locked(const std::string& plural, const std::string& name) {
        const auto found = objects_[plural].find(name);
        if (found == objects_[plural].end()) return;
        Json object = found->second;
        objects_[plural].erase(found);
        object["metadata"]["resourceVersion"] = std::to_string(++version_);
        changes_.push_back({version_, plural, "DELETED", object, Json()});
        for (Watch& watch : watches_) tell(watch, changes_.back());
    }
    static void tell(Watch& watch, const Change& change) {
        if (watch.plural != change.plural) return;
        const bool now = selected(change.object, watch.selector);
        std::string type = change.type;
        if (!now) {
            // As the watch cache does: one that stops matching is "deleted" with what it was before.
            if (!selected(change.before, watch.selector)) return;
            type = "DELETED";
        }
        watch.stream->push(dump_json({{"type", type}, {"object", now ? change.object : change.before}}) +
                           "\n");
    }

    kube::Response serve(const kube::Request& request) {
        const Path path = parse(request);
        auto& objects = objects_[path.plural];
        const auto ok = [](int code, const Json& body) { return kube::Response{code, {}, dump_json(body)}; };
        if (request.method == "GET" && path.name.empty()) {
            Json items = Json::array();
            auto query = path.query;
            for (const auto& [name, object] : objects) {
                if (selected(object, query["labelSelector"])) items.push_back(object);
            }
            return ok(200, {{"kind", "AnyList"},
                            {"apiVersion", "v1"},
                            {"metadata", {{"resourceVersion", std::to_string(version_)}}},
                            {"items", items}});
        }
        if (request.method == "POST") {
            Json object = Json::parse(request.body);
            const std::string name = string_at(object, {"metadata", "name"});
            if (objects.contains(name)) {
                return status(409, "AlreadyExists",
                              fmt::format("{} \"{}\" already exists", path.plural, name));
            }
            object["metadata"]["uid"] = new_uid();
            if (path.plural == "pods") object["status"] = {{"phase", "Pending"}};
            store(path.plural, name, object, "ADDED");
            return ok(201, objects_[path.plural][name]);
        }
        const auto found = objects.find(path.name);
        if (found == objects.end()) {
            return status(404, "NotFound", fmt::format("{} \"{}\" not found", path.plural, path.name));
        }
        if (request.method == "GET") return ok(200, found->second);
        if (request.method == "PUT") return put_object(path, found->second, request);
        if (request.method == "PATCH") return patch_object(path, found->second, request);
        if (request.method == "DELETE") return delete_object(path, found->second, request);
        return status(405, "MethodNotAllowed", "no such method");
    }
    kube::Response put_object(const Path& path, const Json& present, const kube::Request& request) {
        Json object = Json::parse(request.body);
        if (string_at(object, {"metadata", "resourceVersion"}) !=
            string_at(present, {"metadata", "resourceVersion"})) {
            return status(409, "Conflict", "the object has been modified");
        }
        object["metadata"]["uid"] = present["metadata"]["uid"];
        store(path.plural, path.name, object, "MODIFIED");
        return {200, {}, dump_json(objects_[path.plural][path.name])};
    }
    kube::Response patch_object(const Path& path, const Json& present, const kube::Request& request) {
        Json object = present;
        Json patch = Json::parse(request.body);
        if (string_at(patch, {"metadata", "uid"}) != string_at(present, {"metadata", "uid"})) {
            return status(409, "Conflict", "uid precondition");
        }
        // Enough of a strategic merge: containers by name.
        for (const char* list : {"containers", "initContainers", "ephemeralContainers"}) {
            for (const Json& change : array_at(patch, {"spec", list})) {
                if (path.subresource == "ephemeralcontainers") object["spec"][list].push_back(change);
                for (Json& container : object["spec"][list]) {
                    if (container["name"] == change["name"]) container.merge_patch(change);
                }
            }
            if (patch.contains("spec")) patch["spec"].erase(list);
        }
        object.merge_patch(patch);
        store(path.plural, path.name, object, "MODIFIED", &present);
        return {200, {}, dump_json(objects_[path.plural][path.name])};
    }
    kube::Response delete_object(const Path& path, const Json& present, const kube::Request& request) {
        const Json options = Json::parse(request.body);
        const std::string uid = string_at(options, {"preconditions", "uid"});
        if (!uid.empty() && uid != string_at(present, {"metadata", "uid"})) {
            return status(409, "Conflict", "Precondition failed: UID in precondition");
        }
        const std::int64_t grace = int_at(options, {"gracePeriodSeconds"}, 30);
        const bool on_machine = !string_at(present, {"spec", "nodeName"}).empty();
        if (path.plural == "pods" && on_machine && grace > 0) {
            Json object = present;
            object["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z";
            object["metadata"]["deletionGracePeriodSeconds"] = grace;
            store(path.plural, path.name, object, "MODIFIED", &present);
            return {200, {}, dump_json(object)};
        }
        const Json last = present;
        erase_locked(path.plural, path.name);
        return {200, {}, dump_json(last)};
    }

    std::mutex mutex_;
    std::condition_variable watched_;
    Fault before_, after_;
    std::map<std::string, std::map<std::string, Json>> objects_;
    std::vector<Change> changes_;
    std::vector<Watch> watches_;
    std::vector<kube::Request> requests_;
    std::int64_t version_ = 100;
    int uids_ = 0;
    kube::FakeTransport scripted_;
};

}  // namespace k8sgpu::providers::kubernetes
