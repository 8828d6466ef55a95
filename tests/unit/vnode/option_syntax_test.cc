#include <gtest/gtest.h>

#include "vnode/options.h"

namespace k8sgpu::vnode {
namespace {

Result<Command> parse(const std::vector<std::string>& arguments) {
    return parse_command_line(
        arguments, [](const std::string&) { return std::string(); }, "0.1.0");
}

TEST(OptionSyntax, Last_of_several_values_counts_however_it_is_written) {
    EXPECT_EQ(parse({"--port=1", "--port", "2"}).value().options.port, 2);
    EXPECT_EQ(parse({"--port", "1", "--port=2"}).value().options.port, 2);
}

TEST(OptionSyntax, Empty_value_does_not_swallow_the_next_option) {
    const auto command = parse({"--register-with-taints=", "--port=10251"});
    ASSERT_TRUE(command);
    EXPECT_TRUE(command->options.taints.empty());
    EXPECT_EQ(command->options.port, 10251);
}

TEST(OptionSyntax, Option_without_a_value_says_how_to_write_it) {
    for (const std::vector<std::string>& arguments :
         {std::vector<std::string>{"--node-name", "--port=1"}, {"--node-name"}}) {
        const auto command = parse(arguments);
        ASSERT_FALSE(command);
        EXPECT_EQ(command.error().message, "--node-name has no value; write --node-name=NAME");
    }
}

}  // namespace
}  // namespace k8sgpu::vnode
