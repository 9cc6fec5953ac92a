#include <span>

#include <trinix/core/philox.h>
#include <trinix/tools/lib/batch_loader.h>

namespace trinix::tools {

namespace {

using Ids = std::span<std::int32_t>;

CounterBits philox_bits(std::uint64_t seed) {
  return [seed](std::uint64_t position) {
    const PhiloxBlock block = philox(seed, position);
    return static_cast<std::uint64_t>(block.x[0]) << 32 | block.x[1];
  };
}

}  // namespace

BatchLoader::BatchLoader(const DataSet& data, std::int64_t rows, std::int64_t block, Device device)
    : data_(&data), rows_(rows), block_(block), ids_(empty({2, rows, block}, {DType::i32, device})) {
  // Tensors of their own on the common memory, since a view would be out of date after the next upload.
  const auto part = [&](std::int64_t i) {
    return Tensor(ids_.storage(), DType::i32, {rows, block}, {block, 1}, i * rows * block);
  };
  batch_ = {part(0), part(1)};
  if (device.is_cpu()) return;
  const std::size_t bytes = static_cast<std::size_t>(ids_.numel()) * sizeof(std::int32_t);
  for (auto& buffer : staging_) buffer = std::make_unique<PinnedBuffer>(bytes, device);
}

template <class Fill>
void BatchLoader::load(Fill&& fill) {
  PinnedBuffer* const staging = staging_[next_].get();
  next_ = 1 - next_;
  if (staging != nullptr) staging->wait();
  auto* const first = static_cast<std::int32_t*>(staging != nullptr ? staging->data() : ids_.raw_data());
  const auto count = static_cast<std::size_t>(rows_ * block_);
  fill(Ids{first, count}, Ids{first + count, count});
  if (staging != nullptr) {
    staging->upload(ids_);
  } else {
    ids_.storage()->mark_written("load");
  }
}

void BatchLoader::load_random(Split split, std::uint64_t seed, std::uint64_t position) {
  load([&](Ids inputs, Ids targets) {
    data_->random_batch<std::int32_t>(split, block_, philox_bits(seed), position, inputs, targets);
  });
}

std::int64_t BatchLoader::load_sequential(Split split, std::int64_t index) {
  std::int64_t real = 0;
  load([&](Ids inputs, Ids targets) {
    real = data_->sequential_batch<std::int32_t>(split, block_, index, inputs, targets);
  });
  return real;
}

}  // namespace trinix::tools
