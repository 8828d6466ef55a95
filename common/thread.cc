#include "common/thread.h"

#include <pthread.h>

#include <cstdlib>
#include <exception>

#include "common/log.h"

namespace k8sgpu {

Thread::Thread(std::string name, std::function<void(std::stop_token)> body)
    : thread_([name = std::move(name), body = std::move(body)](std::stop_token stop) {
          pthread_setname_np(pthread_self(), name.substr(0, 15).c_str());
          try {
              body(std::move(stop));
          } catch (const std::exception& e) {
              // Only a bug gets here. Half a daemon is worse than a restart, which loses nothing.
              log().critical("thread {} ended by an exception: {}", name, e.what());
              std::abort();
          }
      }) {}

}  // namespace k8sgpu
