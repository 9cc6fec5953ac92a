#pragma once

#include <array>
#include <cstdint>
#include <memory>

#include <trinix/core/pinned_buffer.h>
#include <trinix/core/tensor.h>
#include <trinix/tools/lib/dataset.h>

/// @file
/// Batches as tensors on a device.

namespace trinix::tools {

/// Inputs and targets, (rows, block) of i32.
struct Batch {
  Tensor inputs;
  Tensor targets;
};

/// Brings batches of one size to a device. The tensors are made once and every batch overwrites the one before, in the
/// order of the device's work, so that a captured step finds its inputs where they were. Two staging buffers are filled
/// in turn: while a card works on one batch, the next is already on its way.
class BatchLoader {
 public:
  /// `data` must outlive the loader.
  BatchLoader(const DataSet& data, std::int64_t rows, std::int64_t block, Device device);

  /// Always the same tensors.
  [[nodiscard]] const Batch& batch() const { return batch_; }

  /// Rows drawn at random under a seed; `position` counts rows.
  void load_random(Split split, std::uint64_t seed, std::uint64_t position);

  /// As DataSet::sequential_batch(). @returns how many targets are real
  std::int64_t load_sequential(Split split, std::int64_t index);

 private:
  /// Calls fill(inputs, targets) with the memory for the next batch and sends it off.
  template <class Fill>
  void load(Fill&& fill);

  const DataSet* data_;
  std::int64_t rows_;
  std::int64_t block_;
  Tensor ids_;  // (2, rows, block)
  Batch batch_;
  std::array<std::unique_ptr<PinnedBuffer>, 2> staging_;  // empty on the CPU, which is filled in place
  std::size_t next_ = 0;
};

}  // namespace trinix::tools
