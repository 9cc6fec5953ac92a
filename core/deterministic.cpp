#include <atomic>

#include <trinix/core/deterministic.h>

namespace trinix {

namespace {
std::atomic<bool> deterministic{false};
}

void set_deterministic(bool on) { deterministic.store(on, std::memory_order_relaxed); }
bool is_deterministic() { return deterministic.load(std::memory_order_relaxed); }

}  // namespace trinix
