#pragma once

#include <unordered_map>

#include <trinix/core/tensor.h>

/// @file
/// Tensors by identity: which handles name one and the same tensor.

namespace trinix::detail {

/// Numbers tensors in the order in which they are first seen.
class TensorSet {
 public:
  struct Place {
    std::size_t index;
    bool is_new;
  };

  Place insert(const Tensor& t) {
    // Handles of one tensor share storage, which narrows the search; views of one storage are still told apart.
    const auto [first, last] = seen_.equal_range(t.storage().get());
    for (auto i = first; i != last; ++i) {
      if (i->second.tensor.same(t)) return {i->second.index, false};
    }
    const std::size_t index = seen_.size();
    seen_.emplace(t.storage().get(), Entry{t, index});
    return {index, true};
  }

 private:
  struct Entry {
    Tensor tensor;
    std::size_t index;
  };
  std::unordered_multimap<const Storage*, Entry> seen_;
};

}  // namespace trinix::detail
