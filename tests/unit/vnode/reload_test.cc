#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "common/file.h"
#include "vnode/options.h"
#include "vnode/reloader.h"

namespace k8sgpu::vnode {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class FilesTest : public ::testing::Test {
  protected:
    FilesTest() {
        char name[] = "/tmp/k8sgpu-reload-XXXXXX";
        folder_ = ::mkdtemp(name);
    }
    ~FilesTest() override { std::filesystem::remove_all(folder_); }
    std::string path(const std::string& name) const { return folder_ + "/" + name; }
    static void write(const std::string& path, const std::string& text) { std::ofstream(path) << text; }
    std::string folder_;
};

using FileWatchTest = FilesTest;

TEST_F(FileWatchTest, A_change_counts_once_it_has_settled_and_only_once) {
    write(path("a"), "one");
    FileWatch watch({path("a")});
    EXPECT_FALSE(watch.changed());
    write(path("a"), "another");
    EXPECT_FALSE(watch.changed()) << "it may still be written";
    EXPECT_TRUE(watch.changed());
    EXPECT_FALSE(watch.changed());
}

TEST_F(FileWatchTest, A_file_renamed_over_it_is_a_change) {
    write(path("a"), "same");
    FileWatch watch({path("a")});
    ASSERT_TRUE(replace_file(path("a"), "same", 0600));
    watch.changed();
    EXPECT_TRUE(watch.changed());
}

// What the kubelet does with a mounted Secret: a -> ..data/a, ..data -> ..2026_01, and then ..data ->
// ..2026_02.
TEST_F(FileWatchTest, The_swapped_link_of_a_mounted_Secret_is_a_change) {
    for (const char* version : {"..2026_01", "..2026_02"}) {
        std::filesystem::create_directory(path(version));
        write(path(version) + "/a", "x");
    }
    std::filesystem::create_symlink("..2026_01", path("..data"));
    std::filesystem::create_symlink("..data/a", path("a"));
    FileWatch watch({path("a")});
    std::filesystem::create_symlink("..2026_02", path("..data_tmp"));
    std::filesystem::rename(path("..data_tmp"), path("..data"));
    watch.changed();
    EXPECT_TRUE(watch.changed());
}

TEST_F(FileWatchTest, A_file_that_vanishes_and_comes_back_is_two_changes) {
    write(path("a"), "x");
    FileWatch watch({path("a")});
    ::unlink(path("a").c_str());
    watch.changed();
    EXPECT_TRUE(watch.changed());
    write(path("a"), "x");
    watch.changed();
    EXPECT_TRUE(watch.changed());
}

class ReloaderTest : public FilesTest {
  protected:
    ReloaderTest() { write(path("a"), "one"); }
    void look_twice() {
        reloader_->look(false, {});
        reloader_->look(false, {});
    }
    void make() {
        std::vector<ReloadTarget> targets;
        targets.push_back({"kubeconfig", {path("a")}, [this](const CallContext&) {
                               ++applied_;
                               return outcome_;
                           }});
        reloader_ = std::make_unique<Reloader>(
            clock_, metrics_, std::move(targets),
            [this](const std::string& what, const Result<void>& outcome) {
                told_.push_back(what + ": " + (outcome ? "ok" : outcome.error().message));
            });
    }

    FakeClock clock_;
    MetricsRegistry metrics_;
    Result<void> outcome_;
    int applied_ = 0;
    std::vector<std::string> told_;
    std::unique_ptr<Reloader> reloader_;
};

TEST_F(ReloaderTest, Applies_what_changed_and_nothing_else) {
    make();
    look_twice();
    EXPECT_EQ(applied_, 0);
    write(path("a"), "other");
    look_twice();
    look_twice();
    EXPECT_EQ(applied_, 1);
    EXPECT_THAT(told_, ElementsAre("kubeconfig: ok"));
    EXPECT_THAT(render_metrics(metrics_),
                HasSubstr("k8sgpu_config_reloads_total{outcome=\"success\",what=\"kubeconfig\"} 1"));
}

TEST_F(ReloaderTest, A_broken_file_is_told_once_and_not_tried_again_until_it_changes) {
    make();
    outcome_ = fail(ErrorKind::Invalid, "not a kubeconfig");
    write(path("a"), "brok");
    look_twice();
    look_twice();
    EXPECT_EQ(applied_, 1);
    EXPECT_THAT(told_, ElementsAre("kubeconfig: not a kubeconfig"));
    EXPECT_THAT(render_metrics(metrics_), HasSubstr("outcome=\"error\""));
    outcome_ = {};
    write(path("a"), "mended");
    look_twice();
    EXPECT_THAT(told_, ElementsAre("kubeconfig: not a kubeconfig", "kubeconfig: ok"));
}

TEST_F(ReloaderTest, A_server_that_does_not_answer_is_tried_at_each_look_and_told_once) {
    make();
    outcome_ = fail(ErrorKind::Unavailable, "no route");
    write(path("a"), "other");
    look_twice();
    look_twice();
    EXPECT_EQ(applied_, 3);
    EXPECT_THAT(told_, ElementsAre("kubeconfig: no route"));
    outcome_ = {};
    look_twice();
    EXPECT_EQ(applied_, 4);
    EXPECT_THAT(told_, ElementsAre("kubeconfig: no route", "kubeconfig: ok"));
}

TEST_F(ReloaderTest, A_forced_look_applies_what_has_not_changed) {
    make();
    reloader_->look(true, {});
    EXPECT_EQ(applied_, 1);
}

TEST_F(ReloaderTest, Its_thread_looks_when_it_is_forced) {
    make();
    reloader_->start();
    ASSERT_TRUE(clock_.wait_for_sleepers(1));
    reloader_->force();
    ASSERT_TRUE(clock_.wait_for_sleepers(1));
    reloader_->stop();
    EXPECT_GE(applied_, 0);
}

Result<Command> parse(const std::vector<std::string>& arguments) {
    return parse_command_line(
        arguments, [](const std::string&) { return std::string(); }, "1.2.3");
}

TEST(OptionReload, Names_what_needs_a_restart_and_not_what_may_change) {
    const auto before = parse({"--port=10250", "--log-level=info"});
    const auto after =
        parse({"--port=10251", "--log-level=debug", "--capacity=cpu=4", "--node-name=k8s.gpu"});
    EXPECT_THAT(needing_restart(*before, *after), ElementsAre("port"));
    EXPECT_THAT(needing_restart(*after, *after), IsEmpty());
    EXPECT_THAT(needing_restart(*parse({}), *parse({"--port=10250"})), IsEmpty())
        << "the default, written down";
}

TEST_F(FilesTest, A_config_file_that_others_may_write_is_refused) {
    write(path("c"), "port: 10251\n");
    ::chmod(path("c").c_str(), 0666);
    const auto command = parse({"--config=" + path("c")});
    ASSERT_FALSE(command);
    EXPECT_THAT(command.error().message, HasSubstr("chmod go-w"));
}

TEST(OptionDuration, Is_written_as_Go_writes_it) {
    EXPECT_EQ(parse({"--remote-unreachable-grace=1m30s"})->options.link_policy.grace, Duration(90'000));
    EXPECT_EQ(parse({"--shutdown-grace-period=0"})->options.shutdown_grace, Duration(0));
    for (const char* bad : {"", "90", "5x", "-1s", "169h", "1s1"}) {
        const auto command = parse({std::string("--shutdown-grace-period=") + bad});
        ASSERT_FALSE(command) << bad;
        EXPECT_THAT(command.error().message, HasSubstr("90s, 5m or 1h30m"));
    }
}

}  // namespace
}  // namespace k8sgpu::vnode
