// Thread: a named std::jthread whose body cannot leak an exception. Names (15 bytes at most, kernel limit)
// appear in top, gdb and in ARCHITECTURE.md's thread table. The owner keeps it as its last member:
// destruction asks it to stop and joins.
#pragma once

#include <functional>
#include <stop_token>
#include <string>
#include <thread>

namespace k8sgpu {

class Thread {
  public:
    Thread() = default;
    // `body` runs on the new thread until it returns; it must return soon after the token asks.
    Thread(std::string name, std::function<void(std::stop_token)> body);
    Thread(Thread&&) = default;
    Thread& operator=(Thread&&) = default;

    void request_stop() { thread_.request_stop(); }
    void join() {
        if (thread_.joinable()) thread_.join();
    }
    void stop() {
        request_stop();
        join();
    }
    bool joinable() const { return thread_.joinable(); }

  private:
    std::jthread thread_;
};

}  // namespace k8sgpu
