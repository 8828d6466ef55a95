#include "kube/internal/yaml.h"

#include <yaml-cpp/yaml.h>

namespace k8sgpu::kube {
namespace {

constexpr int kMaxDepth = 64;
constexpr int kMaxValues = 100'000;

// Thrown and caught in this file, through yaml-cpp's own error path.
YAML::Exception refuse(const YAML::Node& node, const std::string& why) {
    return {node.Mark(), why};
}

Json scalar(const YAML::Node& node) {
    const std::string& text = node.Scalar();
    const std::string& tag = node.Tag();
    if (tag == "!" || tag == "tag:yaml.org,2002:str") return text;  // quoted
    if (text.empty() || text == "~" || text == "null" || text == "Null" || text == "NULL") return nullptr;
    if (text == "true" || text == "True" || text == "TRUE") return true;
    if (text == "false" || text == "False" || text == "FALSE") return false;
    const Json number = Json::parse(text, nullptr, /*allow_exceptions=*/false);
    return number.is_number() ? number : Json(text);
}

Json convert(const YAML::Node& node, int depth, int& values) {
    if (depth > kMaxDepth) throw refuse(node, "nested too deeply");
    if (++values > kMaxValues) throw refuse(node, "too many values");
    switch (node.Type()) {
        case YAML::NodeType::Scalar:
            return scalar(node);
        case YAML::NodeType::Sequence: {
            Json array = Json::array();
            for (const auto& item : node) array.push_back(convert(item, depth + 1, values));
            return array;
        }
        case YAML::NodeType::Map: {
            Json object = Json::object();
            for (const auto& entry : node) {
                if (!entry.first.IsScalar()) throw refuse(entry.first, "a key is not text");
                const std::string& key = entry.first.Scalar();
                if (object.contains(key)) throw refuse(entry.first, "key " + key + " stands twice");
                object[key] = convert(entry.second, depth + 1, values);
            }
            return object;
        }
        default:
            return nullptr;
    }
}

}  // namespace

Result<Json> parse_yaml(const std::string& text) {
    try {
        int values = 0;
        return convert(YAML::Load(text), 0, values);
    } catch (const YAML::Exception& e) {
        return fail(ErrorKind::Invalid, "line " + std::to_string(e.mark.line + 1) + ", column " +
                                            std::to_string(e.mark.column + 1) + ": " + e.msg);
    }
}

}  // namespace k8sgpu::kube
