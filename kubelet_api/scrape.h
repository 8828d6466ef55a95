// Answers a scrape: the Prometheus text format, compressed where the scraper takes gzip. Any thread.
#pragma once

#include <string>
#include <string_view>

#include "common/result.h"
#include "kubelet_api/exchange.h"

namespace k8sgpu::kubelet_api {

void answer_scrape(Exchange& exchange, const std::string& text);

// Pure. Whether an Accept-Encoding list takes gzip: named, or "*", without q=0.
bool accepts_gzip(const net::HttpHeaders& headers);
// Pure: RFC 1952.
Result<std::string> gzip(std::string_view bytes);

}  // namespace k8sgpu::kubelet_api
