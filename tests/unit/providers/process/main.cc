// The test program is also its own shim, as the daemon is.
#include <gtest/gtest.h>

#include <string_view>

#include "providers/process/shim.h"

int main(int argc, char** argv) {
    if (argc > 1 && std::string_view(argv[1]) == "process-shim") {
        return k8sgpu::providers::process::shim_main(argc - 1, argv + 1);
    }
    testing::InitGoogleTest(&argc, argv);
    return RUN_ALL_TESTS();
}
