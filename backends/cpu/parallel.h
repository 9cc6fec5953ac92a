#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include <trinix/core/threads.h>

/// @file
/// The only doors to threads in the CPU backend. Work below a grain runs on the calling thread, because waking a team
/// costs from one to tens of microseconds; inside a parallel region everything runs on the calling thread.

namespace trinix::cpu {

/// Elements of cheap work (a load, an addition, a store) below which waking another thread does not pay.
inline constexpr std::int64_t kGrain = 32768;

namespace internal {
using TeamBody = void (*)(void* context, int thread, int threads);
/// Runs body(context, t, n) on n threads, n being at most `threads`; on the calling thread alone when that is 1 or it
/// is in a team already. The body must not throw.
void run_team(int threads, TeamBody body, void* context);
}  // namespace internal

/// Whether the caller already is inside a team.
[[nodiscard]] bool in_team();
/// Waits for every thread of the team. Only inside team().
void team_barrier();

/// Threads worth using for `work` units with at least `grain` units each.
[[nodiscard]] inline int threads_for(std::int64_t work, std::int64_t grain) {
  if (work <= grain || in_team()) return 1;
  return static_cast<int>(std::min<std::int64_t>(num_threads(), (work + grain - 1) / grain));
}

/// Calls f(thread, threads) once on each of up to `threads` threads. f may use team_barrier() and must not throw.
template <class F>
void team(int threads, F&& f) {
  // One call of f in the code, whether there are threads or not: a kernel's body is compiled once.
  internal::run_team(
      threads, [](void* context, int t, int n) { (*static_cast<std::remove_reference_t<F>*>(context))(t, n); }, &f);
}

/// Calls f(begin, end) on disjoint ranges that cover [0, n), each of at least `grain` elements, in parallel.
/// The split depends only on n, grain and the thread count. f must not throw.
template <class F>
void parallel_for(std::int64_t n, std::int64_t grain, F&& f) {
  if (n <= 0) return;
  team(threads_for(n, std::max<std::int64_t>(grain, 1)), [&](int t, int count) {
    const std::int64_t begin = n * t / count;
    const std::int64_t end = n * (t + 1) / count;
    if (begin < end) f(begin, end);
  });
}

}  // namespace trinix::cpu
