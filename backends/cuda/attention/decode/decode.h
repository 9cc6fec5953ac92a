#pragma once

#include <trinix/backends/cuda/attention/attention.h>

/// @file
/// Attention of a few queries over many keys, as when a model writes token by token from a cache of keys and values.
/// What it costs is reading the keys and values once: the query heads that share a key head are rows of one tile, and
/// the keys are split among as many blocks as the card runs at once ("Flash-Decoding", Dao et al., 2023), whose results
/// a second kernel combines. From sm_80 on; forward only.

namespace trinix::cuda {

inline constexpr std::int64_t kDecodeQueries = 16;  ///< most queries of a sequence

/// Columns that the kernels compute with.
[[nodiscard]] constexpr int decode_width(std::int64_t depth) { return depth <= 64 ? 64 : depth <= 128 ? 128 : 256; }

/// Shared memory that a block takes.
[[nodiscard]] constexpr int decode_shared_bytes(int width) { return (width <= 128 ? 96 : 160) * 1024 + 512; }

// Each file decode_*.cu holds one element type T, with the widths of decode_width().
template <class T, int kWidth>
void run_decode(const AttentionForwardTask& task, const Stream& stream);

}  // namespace trinix::cuda
