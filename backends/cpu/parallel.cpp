#include <atomic>
#include <omp.h>

#include <trinix/backends/cpu/parallel.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>

namespace trinix {

namespace {
std::atomic<int> chosen_threads{0};
}

void set_num_threads(int count) {
  if (count < 0) detail::fail<ConfigError>("set_num_threads", "{} threads were asked for; 0 means the default", count);
  chosen_threads.store(count, std::memory_order_relaxed);
}

int num_threads() {
  const int chosen = chosen_threads.load(std::memory_order_relaxed);
  return chosen > 0 ? chosen : omp_get_max_threads();
}

namespace cpu {

bool in_team() { return omp_in_parallel() != 0; }

void team_barrier() {
#pragma omp barrier
}

void internal::run_team(int threads, TeamBody body, void* context) {
  if (threads <= 1 || in_team()) return body(context, 0, 1);
    // num_threads() on the region leaves the host's omp_set_num_threads() as it was.
#pragma omp parallel num_threads(threads)
  body(context, omp_get_thread_num(), omp_get_num_threads());
}

}  // namespace cpu
}  // namespace trinix
