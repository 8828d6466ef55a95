// The thread that moves the bytes of all requests: one CURLM, driven by curl_multi_poll and woken by
// curl_multi_wakeup. It parses nothing but HTTP and calls nobody back.
//
// Owned by CurlTransport. add(), remove() and resume() from any thread; they only leave a command. stop(), or
// the destructor, ends every exchange with Cancelled and joins.
#pragma once

#include <curl/curl.h>

#include <map>
#include <memory>
#include <vector>

#include "common/guarded.h"
#include "common/thread.h"
#include "kube/internal/curl_exchange.h"

namespace k8sgpu::kube {

class CurlLoop {
  public:
    CurlLoop();
    ~CurlLoop();

    void add(std::shared_ptr<Exchange> exchange);
    // Ends the transfer wherever it is; unknown or finished ones are fine.
    void remove(std::shared_ptr<Exchange> exchange);
    void resume(std::shared_ptr<Exchange> exchange);
    void stop();

  private:
    enum class Verb { Add, Remove, Resume };
    struct Command {
        Verb verb;
        std::shared_ptr<Exchange> exchange;
    };
    struct Inbox {
        std::vector<Command> commands;
        bool closed = false;
    };
    void post(Verb verb, std::shared_ptr<Exchange> exchange);
    void loop(std::stop_token stop);
    void obey(const Command& command);
    void collect_finished();
    void drop(CURL* easy);

    CURLM* multi_;
    Guarded<Inbox> inbox_;
    std::map<CURL*, std::shared_ptr<Exchange>> active_;  // kube-io only
    Thread thread_;
};

}  // namespace k8sgpu::kube
