#include <atomic>

#include <trinix/backends/cpu/gemm/blocked.h>
#include <trinix/backends/cpu/parallel.h>

namespace trinix::cpu::internal {

namespace {

// Sizes in bytes but for the rows; measured on Zen 5 (1 MB of second-level cache per core). Blocks of the depth are
// long, because every one but the first has to fetch its part of C again; both panels then stream from the second-level
// cache, which a tile asks for 13 of the 64 bytes per cycle that it can give.
constexpr std::int64_t kDepthBytes = 3072;     // of one row of A in a block
constexpr std::int64_t kBlockOfA = 384 << 10;  // packed by each thread, in its second-level cache
constexpr std::int64_t kJobRows = 84;
constexpr std::int64_t kPhaseOfB = 8 << 20;        // packed by the team, in the last-level cache
constexpr std::int64_t kThinPhaseOfB = 256 << 10;  // with few rows B is used at once, from the second level
constexpr std::int64_t kWideRows = 2048;           // rows of a 16-bit C whose sums are kept in f32

/// What the threads of a team share.
struct alignas(64) JobCounter {
  std::atomic<std::int64_t> next{0};
};

template <class T>
struct Team {
  const Problem<T>& p;
  const GemmPlan& plan;
  T* b_space;
  T* c_space;
  T* a_space;
  JobCounter counters[2];
};

/// A region of the loop nest: columns [col, col+cols), rows [row, row+rows), depth [step, step+depth).
struct Phase {
  std::int64_t col, cols, row, rows, step, depth;
};

template <class T>
std::int64_t a_panel_stride(const GemmPlan& plan, std::int64_t depth) {
  return round_up(plan.tile_rows * depth + kPanelSlack<T>, 64 / static_cast<std::int64_t>(sizeof(T)));
}

/// Padded by some cache lines: panels a power of two apart would evict each other from the caches as they are packed.
template <class T>
std::int64_t b_panel_stride_of(std::int64_t depth) {
  return kTileColumns<T> * (depth + 1);
}

/// One tile of one block of the depth.
template <class T>
void run_tile(const Problem<T>& p, std::int64_t depth, const T* a, std::int64_t a_step, const T* b, std::int64_t row,
              std::int64_t col, std::int64_t rows, std::int64_t cols, bool first) {
  constexpr std::int64_t width = kTileColumns<T>;
  const int vecs = cols > kWidth<T> ? 2 : 1;
  const Microkernel<T> kernel = microkernel_for<T>(static_cast<int>(rows), vecs);
  if (cols == vecs * kWidth<T> && p.stores_directly()) {
    T* c = static_cast<T*>(p.c.data) + row * p.c.row + col;
    const T* bias = first && p.bias != nullptr ? static_cast<const T*>(p.bias) + col : nullptr;
    kernel(depth, a, a_step, b, width, {c, p.c.row, p.alpha, !first || p.accumulate, bias});
    return;
  }
  alignas(kVectorBytes) T tile[Tile::rows * width];
  kernel(depth, a, a_step, b, width, {tile, width});
  write_tile(p, tile, width, row, col, rows, cols, first);
}

/// The packed block of A that a thread holds, so that jobs which share rows share it.
struct HeldBlock {
  std::int64_t row = -1;
  std::int64_t step = -1;
};

/// Rows [row, row+rows) by columns [col, col+cols) for the depth of the phase. `b` is the phase's first panel.
template <class T>
void run_job(Team<T>& team, const Phase& phase, const T* b, std::int64_t b_panel_stride, std::int64_t row,
             std::int64_t rows, std::int64_t col, std::int64_t cols, T* a, HeldBlock& held) {
  constexpr std::int64_t width = kTileColumns<T>;
  const Problem<T>& p = team.p;
  const GemmPlan& plan = team.plan;
  const std::int64_t high = plan.tile_rows;
  const std::int64_t a_stride = a_panel_stride<T>(plan, phase.depth);
  if (held.row != row || held.step != phase.step) {
    pack_panels(p.a, {row, rows, p.m, phase.step, phase.depth, high, a_stride}, a);
    held = {row, phase.step};
  }
  const bool first = phase.step == 0;
  for (std::int64_t j = 0; j < cols; j += width) {
    const T* b_panel = b + (col - phase.col + j) / width * b_panel_stride;
    for (std::int64_t i = 0; i < rows; i += high) {
      const T* a_panel = a + i / high * a_stride;
      const std::int64_t tile_rows = std::min(high, rows - i);
      if (plan.wide_result) {
        T* c = team.c_space + (row - phase.row + i) * plan.nc + (col - phase.col + j);
        microkernel_for<T>(static_cast<int>(tile_rows), 2)(phase.depth, a_panel, high, b_panel, width,
                                                           {c, plan.nc, T{1}, !first, nullptr});
      } else {
        run_tile(p, phase.depth, a_panel, high, b_panel, row + i, col + j, tile_rows, std::min(width, cols - j), first);
      }
    }
  }
  if (plan.wide_result && phase.step + phase.depth == p.k) {
    T* c = team.c_space + (row - phase.row) * plan.nc + (col - phase.col);
    write_tile(p, c, plan.nc, row, col, rows, cols, true);
  }
}

template <class T>
void run_member(Team<T>& team, int t, int threads) {
  const Problem<T>& p = team.p;
  const GemmPlan& plan = team.plan;
  T* a = team.a_space + t * plan.a_elements;
  HeldBlock held;
  int turn = 0;
  int buffer = 0;
  for (std::int64_t col = 0; col < p.n; col += plan.nc) {
    for (std::int64_t row = 0; row < p.m; row += plan.mo) {
      for (std::int64_t step = 0; step < p.k; step += plan.kc) {
        const Phase phase{col,  std::min(plan.nc, p.n - col), row, std::min(plan.mo, p.m - row),
                          step, std::min(plan.kc, p.k - step)};
        const T* b;
        std::int64_t b_panel_stride;
        if (p.packed_b.defined()) {
          b_panel_stride = p.packed_b.panel_stride;
          b = static_cast<const T*>(p.packed_b.data) + col / kTileColumns<T> * b_panel_stride + step * kTileColumns<T>;
        } else {
          b_panel_stride = b_panel_stride_of<T>(phase.depth);
          // The next phase packs into the other buffer while slower threads still read this one.
          if (row == 0 || plan.kc < p.k) {
            buffer = plan.b_buffers == 2 ? 1 - buffer : 0;
            pack_panels(p.b, {col, phase.cols, p.n, step, phase.depth, kTileColumns<T>, b_panel_stride},
                        team.b_space + buffer * plan.b_elements, t, threads);
          }
          b = team.b_space + buffer * plan.b_elements;
        }
        // Everyone has left the phase before the last one, which used this counter.
        std::atomic<std::int64_t>& next = team.counters[turn].next;
        turn = 1 - turn;
        if (threads > 1) {
          if (t == 0) next.store(0, std::memory_order_relaxed);
          team_barrier();
        } else {
          next.store(0, std::memory_order_relaxed);
        }
        const std::int64_t across = ceil_div(phase.cols, plan.nj);
        const std::int64_t jobs = ceil_div(phase.rows, plan.mc) * across;
        for (;;) {
          const std::int64_t job = next.fetch_add(1, std::memory_order_relaxed);
          if (job >= jobs) break;
          const std::int64_t job_row = row + job / across * plan.mc;
          const std::int64_t job_col = col + job % across * plan.nj;
          run_job(team, phase, b, b_panel_stride, job_row, std::min(plan.mc, row + phase.rows - job_row), job_col,
                  std::min(plan.nj, col + phase.cols - job_col), a, held);
        }
      }
    }
  }
}

/// Cuts `total` into equal pieces of at most `most`, each a multiple of `unit`.
std::int64_t even_pieces(std::int64_t total, std::int64_t most, std::int64_t unit) {
  most = std::max(unit, most / unit * unit);
  const std::int64_t pieces = std::max<std::int64_t>(1, ceil_div(total, most));
  return std::max(unit, round_up(ceil_div(total, pieces), unit));
}

}  // namespace

template <class T>
GemmPlan plan_gemm(const Problem<T>& p, int threads) {
  constexpr std::int64_t size = sizeof(T);
  constexpr std::int64_t width = kTileColumns<T>;
  GemmPlan plan;
  plan.threads = threads;
  plan.tile_rows = balanced_tile_rows(p.m);
  plan.kc = even_pieces(p.k, kDepthBytes / size, kWidth<T>);
  const bool packed = p.packed_b.defined();
  const std::int64_t phase_bytes = threads == 1 && p.m <= 4 * Tile::rows ? kThinPhaseOfB : kPhaseOfB;
  plan.nc = packed ? round_up(p.n, width) : even_pieces(p.n, phase_bytes / (plan.kc * size), width);
  plan.wide_result = size_of(p.c.dtype) == 2 && plan.kc < p.k;
  plan.mo = plan.wide_result ? even_pieces(p.m, kWideRows, plan.tile_rows) : p.m;

  // About four jobs per thread, so that a thread which is held up does not hold up the others; by rows as long as a
  // job's rows use a panel of B often enough, then by columns too.
  plan.mc = even_pieces(plan.mo, std::min(kJobRows, kBlockOfA / (plan.kc * size)), plan.tile_rows);
  plan.nj = plan.nc;
  if (threads > 1) {
    const std::int64_t wanted = 4 * threads;
    const std::int64_t least_rows = 4 * plan.tile_rows;
    plan.mc = std::min(plan.mc, std::max(least_rows, round_up(ceil_div(plan.mo, wanted), plan.tile_rows)));
    const std::int64_t by_rows = ceil_div(plan.mo, plan.mc);
    if (by_rows < wanted) plan.nj = even_pieces(plan.nc, ceil_div(plan.nc, ceil_div(wanted, by_rows)), width);
  }

  plan.b_elements = packed ? 0 : ceil_div(plan.nc, width) * b_panel_stride_of<T>(plan.kc);
  const bool one_phase = plan.nc >= p.n && plan.kc >= p.k;
  plan.b_buffers = packed ? 0 : (one_phase || threads == 1 ? 1 : 2);
  plan.c_elements = plan.wide_result ? plan.mo * plan.nc : 0;
  plan.a_elements = ceil_div(plan.mc, plan.tile_rows) * a_panel_stride<T>(plan, plan.kc);
  return plan;
}

template <class T>
void run_gemm(const Problem<T>& p, const GemmPlan& plan, T* workspace) {
  T* c_space = workspace + plan.b_buffers * plan.b_elements;
  Team<T> shared{p, plan, workspace, c_space, c_space + plan.c_elements, {}};
  // The team may turn out smaller than planned: every member then still packs and takes jobs by the real count.
  team(plan.threads, [&](int t, int threads) { run_member(shared, t, threads); });
}

template GemmPlan plan_gemm(const Problem<float>&, int);
template GemmPlan plan_gemm(const Problem<double>&, int);
template void run_gemm(const Problem<float>&, const GemmPlan&, float*);
template void run_gemm(const Problem<double>&, const GemmPlan&, double*);

}  // namespace trinix::cpu::internal
