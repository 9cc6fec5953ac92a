#include <trinix/backends/cpu/reduction.h>
#include <trinix/backends/dispatch.h>

namespace trinix::cpu {

namespace {

/// Sorted from the largest stride to the smallest; repeated elements (stride 0) come first, since a loop over them
/// inside would read the same element again and again.
void sort_and_merge(Axes& axes) {
  Axis* begin = axes.list.data();
  const auto key = [](const Axis& a) {
    return a.x_stride == 0 ? std::numeric_limits<std::int64_t>::max() : a.x_stride;
  };
  std::stable_sort(begin, begin + axes.count, [&](const Axis& a, const Axis& b) { return key(a) > key(b); });
  int last = 0;
  for (int i = 1; i < axes.count; ++i) {
    Axis& outer = begin[last];
    const Axis& inner = begin[i];
    if (outer.x_stride == inner.size * inner.x_stride && outer.out_stride == inner.size * inner.out_stride) {
      outer = {outer.size * inner.size, inner.x_stride, inner.out_stride};
    } else {
      begin[++last] = inner;
    }
  }
  if (axes.count == 0) begin[0] = {1, 1, 1};
  axes.count = last + 1;
}

/// Whether neighbouring outputs, rather than neighbouring terms of one output, shall fill the vectors.
bool prefers_columns(const Axis& kept, const Axis& reduced) {
  constexpr std::int64_t kEnough = 16;
  if (kept.size == 1 || reduced.size == 1) return kept.size > 1;
  const bool rows_are_dense = reduced.x_stride != 0 && (kept.x_stride == 0 || reduced.x_stride < kept.x_stride);
  if (rows_are_dense) return reduced.size < kEnough && kept.size > reduced.size;
  return kept.size >= kEnough || kept.size >= reduced.size;
}

/// Long reductions to few outputs are split, so that all threads find work.
int count_splits(const ReducePlan& plan) {
  const std::int64_t width = plan.columns ? std::min(plan.kept.inner().size, internal::kTile) : 1;
  const std::int64_t tiles = plan.outputs() / width;
  const std::int64_t unit = plan.columns ? internal::kRowGroup : internal::kRowBlock;  // of the reduced count
  const std::int64_t most = std::min(plan.count() / unit, 64 / std::max<std::int64_t>(tiles, 1));
  return static_cast<int>(std::clamp<std::int64_t>(plan.count() * width / kGrain, 1, std::max<std::int64_t>(most, 1)));
}

}  // namespace

std::int64_t Axes::size() const {
  std::int64_t n = 1;
  for (int i = 0; i < count; ++i) n *= list[static_cast<std::size_t>(i)].size;
  return n;
}

std::int64_t Axes::x_offset(std::int64_t index, int skip) const {
  std::int64_t offset = 0;
  for (int i = count - 1 - skip; i > 0; --i) {
    const Axis& axis = list[static_cast<std::size_t>(i)];
    const std::int64_t rest = index / axis.size;
    offset += (index - rest * axis.size) * axis.x_stride;
    index = rest;
  }
  return count > skip ? offset + index * list[0].x_stride : 0;
}

std::int64_t Axes::out_offset(std::int64_t index, int skip) const {
  std::int64_t offset = 0;
  for (int i = count - 1 - skip; i > 0; --i) {
    const Axis& axis = list[static_cast<std::size_t>(i)];
    const std::int64_t rest = index / axis.size;
    offset += (index - rest * axis.size) * axis.out_stride;
    index = rest;
  }
  return count > skip ? offset + index * list[0].out_stride : 0;
}

ReducePlan make_reduce_plan(const View& x, const View& out) {
  ReducePlan plan;
  for (int d = 0; d < x.rank(); ++d) {
    if (x.shape[d] == 1) continue;
    const bool is_reduced = out.shape[d] == 1;
    Axes& axes = is_reduced ? plan.reduced : plan.kept;
    axes.list[static_cast<std::size_t>(axes.count++)] = {x.shape[d], x.strides[d], is_reduced ? 0 : out.strides[d]};
  }
  sort_and_merge(plan.kept);
  sort_and_merge(plan.reduced);
  plan.columns = prefers_columns(plan.kept.inner(), plan.reduced.inner());
  plan.splits = count_splits(plan);
  return plan;
}

template <class W>
void store_outputs(const ReducePlan& plan, const View& out, std::int64_t begin, const W* values, std::int64_t n,
                   bool accumulate) {
  const Axis& inner = plan.kept.inner();
  dispatch_all(out.dtype, "reduce", [&]<class T>() {
    for (std::int64_t done = 0; done < n;) {
      const std::int64_t row = (begin + done) / inner.size;
      const std::int64_t first = begin + done - row * inner.size;
      const std::int64_t count = std::min(n - done, inner.size - first);
      T* to = out.as<T>() + plan.kept.out_offset(row, 1) + first * inner.out_stride;
      if (accumulate) {
        for (std::int64_t i = 0; i < count; ++i) {
          T& place = to[i * inner.out_stride];
          place = narrow<T>(widen<W>(place) + values[done + i]);
        }
      } else {
        store_stage(to, inner.out_stride, values + done, count);
      }
      done += count;
    }
  });
}

template void store_outputs(const ReducePlan&, const View&, std::int64_t, const double*, std::int64_t, bool);
template void store_outputs(const ReducePlan&, const View&, std::int64_t, const std::int64_t*, std::int64_t, bool);

}  // namespace trinix::cpu
