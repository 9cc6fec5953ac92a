#pragma once

#include <cstdint>

/// @file
/// Mistakes in data that only the card sees. An op does not wait for the card to look at its indices; a kernel that
/// meets a bad one notes it in a record in host memory, and the host, when it waits for the card anyway, finds the note
/// and throws. Kernels that use the index skip what is out of range. Nothing here is called or allocated when a
/// captured graph is replayed.

namespace trinix::cuda {

/// What a kernel noted. Lies in host memory that the card can write to; `site` is written last, and 0 means nothing.
struct Fault {
  std::int64_t index;
  std::int64_t position;
  std::int64_t size;     ///< indices must be in [0, size)
  std::int64_t ignored;  ///< for targets: the value that counts for nothing
  std::int32_t site;
};

/// Scratch of the kernels that check, in the card's memory: zero between kernels, of which one runs at a time because
/// all work of a card is queued on one stream.
struct FaultScratch {
  unsigned long long bad_from_end;  ///< the largest (n - position) of a bad index
  unsigned long long count;
  unsigned int blocks_done;
};

/// The two as kernels of one card take them.
struct FaultMemory {
  Fault* fault = nullptr;
  FaultScratch* scratch = nullptr;
};

/// Makes the memory of a card; called once per card before any of its kernels.
void prepare_faults(int device);
/// @throws DeviceError when the card was not prepared.
[[nodiscard]] FaultMemory fault_memory(int device);

/// A number for "index of `op`, out of range for so many `what`"; both texts are copied. Equal texts have one number.
[[nodiscard]] std::int32_t index_fault_site(const char* op, const char* what);
/// The same for "target of `op`".
[[nodiscard]] std::int32_t target_fault_site(const char* op);

/// Throws what the card noted since the last call, if anything, as IndexError. The card's queue must be empty.
void throw_fault(int device);

}  // namespace trinix::cuda
