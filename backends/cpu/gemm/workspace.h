#pragma once

#include <cstddef>

/// @file
/// Scratch memory of the matrix products.

namespace trinix::cpu::internal {

/// At least `bytes` bytes, aligned to a page, that stay valid until this thread asks again. The memory belongs to the
/// calling thread, grows to the largest request, and is given back when the thread ends, so that products allocate
/// nothing once they have run. Its pages are not touched here. @throws OutOfMemory.
[[nodiscard]] void* thread_workspace(std::size_t bytes);

}  // namespace trinix::cpu::internal
