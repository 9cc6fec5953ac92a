#include <atomic>

#include <trinix/core/tf32.h>

namespace trinix {

namespace {
std::atomic<bool> allowed{false};
}

void allow_tf32(bool on) { allowed.store(on, std::memory_order_relaxed); }
bool is_tf32_allowed() { return allowed.load(std::memory_order_relaxed); }

}  // namespace trinix
