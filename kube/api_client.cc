#include "kube/api_client.h"

#include "common/encoding.h"

namespace k8sgpu::kube {
namespace {

constexpr std::size_t kMaxErrorBody = 64U << 10U;

class Query {
  public:
    void add(std::string_view key, std::string_view value) {
        if (value.empty()) return;
        text_ += text_.empty() ? '?' : '&';
        text_ += key;
        text_ += '=';
        text_ += url_encode(value);
    }
    const std::string& text() const { return text_; }

  private:
    std::string text_;
};

void add_selectors(Query& query, const ListOptions& options) {
    query.add("fieldSelector", options.field_selector);
    query.add("labelSelector", options.label_selector);
    query.add("resourceVersion", options.resource_version);
}

std::string_view content_type(PatchType type) {
    switch (type) {
        case PatchType::StrategicMerge:
            return "application/strategic-merge-patch+json";
        case PatchType::Merge:
            return "application/merge-patch+json";
        case PatchType::Json:
            return "application/json-patch+json";
    }
    return "application/json";
}

std::string without_query(const std::string& path) {
    return path.substr(0, path.find('?'));
}

Json delete_body(const DeleteOptions& options) {
    Json body = {{"kind", "DeleteOptions"}, {"apiVersion", "v1"}};
    if (options.grace) body["gracePeriodSeconds"] = options.grace->count();
    if (options.uid) body["preconditions"] = {{"uid", *options.uid}};
    return body;
}

}  // namespace

std::string read_error_body(ResponseStream& stream, const CallContext& ctx) {
    std::string body;
    while (body.size() < kMaxErrorBody) {
        auto chunk = stream.next(ctx);
        if (!chunk || chunk->empty()) break;
        body += *chunk;
    }
    return body;
}

std::string resource_path(const Resource& resource, std::string_view ns, std::string_view name,
                          std::string_view subresource) {
    std::string path = resource.group.empty() ? "/api" : "/apis/" + std::string(resource.group);
    path += '/';
    path += resource.version;
    if (!ns.empty()) path += "/namespaces/" + url_encode(ns);
    path += '/';
    path += resource.plural;
    if (!name.empty()) path += '/' + url_encode(name);
    if (!subresource.empty()) path += '/' + url_encode(subresource);
    return path;
}

Result<Json> ApiClient::get(const Resource& resource, std::string_view ns, std::string_view name,
                            const CallContext& ctx, std::string_view resource_version) {
    Query query;
    query.add("resourceVersion", resource_version);
    Request request;
    request.path = resource_path(resource, ns, name) + query.text();
    return send(std::move(request), ctx);
}

Result<ObjectList> ApiClient::list(const Resource& resource, std::string_view ns, const ListOptions& options,
                                   const CallContext& ctx) {
    Query query;
    add_selectors(query, options);
    if (options.limit > 0) query.add("limit", std::to_string(options.limit));
    query.add("continue", options.continue_token);
    Request request;
    request.path = resource_path(resource, ns) + query.text();
    auto body = send(std::move(request), ctx);
    if (!body) return fail(body.error());

    ObjectList list;
    list.resource_version = string_at(*body, {"metadata", "resourceVersion"});
    list.continue_token = string_at(*body, {"metadata", "continue"});
    if (list.resource_version.empty() || !string_at(*body, {"kind"}).ends_with("List")) {
        // Taken for an empty list, such an answer would mean "everything is gone".
        return fail(ErrorKind::Protocol, "answer to GET " + resource_path(resource, ns) + " is not a list");
    }
    const auto items = body->find("items");
    if (items == body->end() || items->is_null()) return list;
    if (!items->is_array()) return fail(ErrorKind::Protocol, "items of a list are not an array");
    list.items.reserve(items->size());
    // Items of a list come without kind and apiVersion; readers of single objects see the same items.
    const std::string kind = string_at(*body, {"kind"});
    const std::string item_kind = kind.substr(0, kind.size() - 4);
    for (Json& item : *items) {
        if (!item.is_object()) return fail(ErrorKind::Protocol, "an item of a list is not an object");
        if (!item_kind.empty() && !item.contains("kind")) item["kind"] = item_kind;
        if (!item.contains("apiVersion") && body->contains("apiVersion"))
            item["apiVersion"] = (*body)["apiVersion"];
        list.items.push_back(std::move(item));
    }
    return list;
}

Result<ObjectList> ApiClient::list_all(const Resource& resource, std::string_view ns, ListOptions options,
                                       const CallContext& ctx) {
    ObjectList all;
    while (true) {
        auto page = list(resource, ns, options, ctx);
        if (!page) return page;
        all.resource_version = std::move(page->resource_version);
        std::move(page->items.begin(), page->items.end(), std::back_inserter(all.items));
        if (page->continue_token.empty()) return all;
        options.continue_token = std::move(page->continue_token);
        options.resource_version.clear();  // the token carries it; the server refuses both together
    }
}

Result<Json> ApiClient::create(const Resource& resource, std::string_view ns, const Json& object,
                               const CallContext& ctx) {
    Request request;
    request.method = "POST";
    request.path = resource_path(resource, ns);
    request.headers.emplace("content-type", "application/json");
    request.body = dump_json(object);
    return send(std::move(request), ctx);
}

Result<Json> ApiClient::replace(const Resource& resource, std::string_view ns, std::string_view name,
                                const Json& object, const CallContext& ctx, std::string_view subresource) {
    Request request;
    request.method = "PUT";
    request.path = resource_path(resource, ns, name, subresource);
    request.headers.emplace("content-type", "application/json");
    request.body = dump_json(object);
    return send(std::move(request), ctx);
}

Result<Json> ApiClient::patch(const Resource& resource, std::string_view ns, std::string_view name,
                              PatchType type, const Json& patch, const CallContext& ctx,
                              std::string_view subresource) {
    Request request;
    request.method = "PATCH";
    request.path = resource_path(resource, ns, name, subresource);
    request.headers.emplace("content-type", content_type(type));
    request.body = dump_json(patch);
    return send(std::move(request), ctx);
}

Result<void> ApiClient::remove(const Resource& resource, std::string_view ns, std::string_view name,
                               const DeleteOptions& options, const CallContext& ctx) {
    Request request;
    request.method = "DELETE";
    request.path = resource_path(resource, ns, name);
    request.headers.emplace("content-type", "application/json");
    request.body = dump_json(delete_body(options));
    auto answer = send(std::move(request), ctx);
    if (!answer) return fail(answer.error());
    return {};
}

Result<std::unique_ptr<ResponseStream>> ApiClient::watch(const Resource& resource, std::string_view ns,
                                                         const ListOptions& options,
                                                         std::chrono::seconds server_timeout,
                                                         const CallContext& ctx) {
    Query query;
    query.add("watch", "true");
    query.add("allowWatchBookmarks", "true");
    add_selectors(query, options);
    query.add("timeoutSeconds", std::to_string(server_timeout.count()));
    Request request;
    request.path = resource_path(resource, ns) + query.text();
    auto stream = transport_.open(request, ctx);
    if (!stream) return stream;
    const int status = (*stream)->status();
    if (status == 200) return stream;
    if (status >= 400)
        return fail(error_from_response(status, (*stream)->headers(), read_error_body(**stream, ctx)));
    return fail(ErrorKind::Protocol, "watch answered with http status " + std::to_string(status));
}

Result<Json> ApiClient::get_path(std::string_view path, const CallContext& ctx) {
    Request request;
    request.path = path;
    return send(std::move(request), ctx);
}

Result<Json> ApiClient::send(Request request, const CallContext& ctx) {
    auto response = transport_.send(request, ctx);
    if (!response) return fail(response.error());
    if (response->status >= 400)
        return fail(error_from_response(response->status, response->headers, response->body));
    const std::string what = "answer to " + request.method + " " + without_query(request.path);
    if (response->status < 200 || response->status >= 300) {
        return fail(ErrorKind::Protocol, what + " is http status " + std::to_string(response->status));
    }
    auto body = parse_json(response->body, what);
    if (!body) return fail(ErrorKind::Protocol, body.error().message);
    return body;
}

}  // namespace k8sgpu::kube
