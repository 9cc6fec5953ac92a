#pragma once

#include <cstddef>

#include <trinix/core/backend.h>

/// @file
/// Small writes to the card.

namespace trinix::cuda {

/// Copies host bytes to the card, ordered on the stream. They travel as arguments of a kernel: cudaMemcpyAsync from
/// memory that is not pinned may wait for the stream.
void write_bytes(void* to, const void* from, std::size_t bytes, const Stream& stream);

}  // namespace trinix::cuda
