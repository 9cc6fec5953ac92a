#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <trinix/core/tensor.h>

/// @file
/// Tensors element by element, by index arithmetic that shares nothing with the library's loops.

namespace trinix::testing {

using Index = std::vector<std::int64_t>;

/// Calls f with every index of a shape, in row-major order.
inline void for_each_index(const Shape& shape, const std::function<void(const Index&)>& f) {
  if (numel(shape) == 0) return;
  Index index(static_cast<std::size_t>(shape.size()), 0);
  for (;;) {
    f(index);
    int d = shape.size() - 1;
    for (; d >= 0; --d) {
      auto& i = index[static_cast<std::size_t>(d)];
      if (++i < shape[d]) break;
      i = 0;
    }
    if (d < 0) return;
  }
}

/// The element at an index of a tensor on the CPU.
template <class T>
T& at(const Tensor& t, const Index& index) {
  std::int64_t offset = 0;
  for (std::size_t d = 0; d < index.size(); ++d) offset += index[d] * t.strides()[static_cast<int>(d)];
  return t.data<T>()[offset];
}

/// A tensor of i64 with these sizes and the values 0, 1, ... in row-major order, laid out in memory in one of several
/// ways: 0 row-major, 1 with the dims reversed, 2 as every second element of a larger one, not from its start.
inline constexpr int kLayouts = 3;
inline const char* layout_name(int layout) {
  constexpr const char* names[kLayouts] = {"row-major", "reversed dims", "sliced"};
  return names[layout];
}
inline Tensor counting(const Shape& shape, int layout) {
  Shape stored = shape;
  Strides strides = shape;
  std::int64_t offset = 0;
  std::int64_t step = 1;
  const auto place = [&](int d) {
    strides[d] = step;
    step *= std::max<std::int64_t>(shape[d], 1);
  };
  if (layout == 2) {
    step = 2;
    offset = 3;
  }
  for (int i = 0; i < shape.size(); ++i) place(layout == 1 ? i : shape.size() - 1 - i);
  const Tensor memory = full({std::max<std::int64_t>(step, 1) + offset}, -1, {DType::i64});
  const Tensor t(memory.storage(), DType::i64, stored, strides, offset);
  std::int64_t value = 0;
  for_each_index(shape, [&](const Index& index) { at<std::int64_t>(t, index) = value++; });
  return t;
}

}  // namespace trinix::testing
