#pragma once

#include <trinix/backends/cpu/gemm/problem.h>

/// @file
/// The blocked loop nest around the register tile, for one thread or a team.

namespace trinix::cpu::internal {

/// How a product is cut. From the outside in: panels of nc columns of B; bands of mo rows of C; phases of kc steps of
/// the depth, for which the team packs B once; jobs of mc rows by nj columns, which threads take one after another and
/// for which a thread packs its rows of A.
struct GemmPlan {
  int threads = 1;
  std::int64_t tile_rows = 1;
  std::int64_t nc = 0, mo = 0, kc = 0, mc = 0, nj = 0;
  bool wide_result = false;    ///< sums of several blocks are kept in f32 beside a 16-bit C
  std::int64_t b_buffers = 0;  ///< packed panels of B that are alive at once
  std::int64_t b_elements = 0, c_elements = 0, a_elements = 0;  ///< of one buffer; a_elements per thread
  [[nodiscard]] std::int64_t workspace_elements() const {
    return b_buffers * b_elements + c_elements + threads * a_elements;
  }
};

template <class T>
[[nodiscard]] GemmPlan plan_gemm(const Problem<T>& p, int threads);

/// Runs the product on plan.threads threads. `workspace` holds plan.workspace_elements() and is aligned to 64 bytes.
template <class T>
void run_gemm(const Problem<T>& p, const GemmPlan& plan, T* workspace);

}  // namespace trinix::cpu::internal
