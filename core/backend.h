#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include <trinix/core/device.h>

/// @file
/// The narrow interface of a device: memory, copies, streams, events. Mathematics is not here; kernels register
/// themselves per op (core/kernel.h). A third party adds a device by deriving from Backend and registering kernels.

namespace trinix {

/// An ordered queue of work on one device. The CPU's is empty: its work is done when the call returns.
struct Stream {
  Device device;
  void* native = nullptr;  ///< cudaStream_t on CUDA
};

/// Memory of one device, in bytes, as the allocator sees it.
struct MemoryStats {
  std::int64_t allocated = 0;       ///< in live tensors now
  std::int64_t peak_allocated = 0;  ///< largest `allocated` since the last reset
  std::int64_t reserved = 0;        ///< taken from the system, freed blocks kept for reuse included
  std::int64_t peak_reserved = 0;
  std::int64_t allocations = 0;         ///< requests served
  std::int64_t system_allocations = 0;  ///< requests that had to go to the system
};

/// Work that was recorded instead of run, with the memory that it uses. Must not be destroyed during a capture.
class DeviceGraph {
 public:
  DeviceGraph() = default;
  virtual ~DeviceGraph() = default;
  DeviceGraph(const DeviceGraph&) = delete;
  DeviceGraph& operator=(const DeviceGraph&) = delete;
  /// Queues all of it, on the memory addresses that it was recorded with.
  virtual void replay(const Stream& stream) = 0;
};

/// One device type. All functions may be called from any thread.
class Backend {
 public:
  virtual ~Backend() = default;

  [[nodiscard]] virtual int device_count() const = 0;
  /// Why there is no device at all, as a clause; empty when there are some.
  [[nodiscard]] virtual std::string why_unavailable() const { return {}; }
  /// One line for a person: the model, its memory, what the binary was compiled for.
  [[nodiscard]] virtual std::string describe(int index) const = 0;

  /// At least `bytes` bytes, aligned to 64 or more. @throws OutOfMemory.
  [[nodiscard]] virtual void* allocate(std::size_t bytes, int index) = 0;
  virtual void release(void* data, std::size_t bytes, int index) noexcept = 0;
  /// Copies between any two devices of which at least one is of this type; ordered on `stream`. Host memory may be
  /// reused when the call returns.
  virtual void copy(void* to, Device to_device, const void* from, Device from_device, std::size_t bytes,
                    const Stream& stream) = 0;
  virtual void zero(void* data, std::size_t bytes, const Stream& stream) = 0;

  /// The stream on which this thread's work on the device is queued.
  [[nodiscard]] virtual Stream stream(int index) = 0;
  /// Waits for all work queued on the device.
  virtual void synchronize(int index) = 0;

  [[nodiscard]] virtual MemoryStats memory_stats(int index) const = 0;
  virtual void reset_peak_memory(int index) = 0;
  /// Returns cached free blocks to the system.
  virtual void empty_cache(int index) = 0;

  // Recording; a device need not know how. core/capture.h is the way to use these. ------------------------------------
  [[nodiscard]] virtual bool can_capture() const { return false; }
  /// From now on work that this thread queues on the device is recorded, not run. Memory comes from a pool that only
  /// the recorded work uses; copies from and to the host and waiting throw CaptureError. No other thread may use the
  /// device meanwhile. @throws DeviceError where it is not possible.
  virtual void begin_capture(int index);
  [[nodiscard]] virtual std::unique_ptr<DeviceGraph> end_capture(int index);
  /// Forgets what was recorded.
  virtual void abandon_capture(int index) noexcept;
  /// As allocate(), but during a capture the memory is none that the recorded work uses for anything else, so that what
  /// is written to it between replays stays there.
  [[nodiscard]] virtual void* allocate_apart(std::size_t bytes, int index) { return allocate(bytes, index); }
  /// Writes a few bytes of host memory (up to some thousand) to the device, ordered on `stream`, without waiting.
  virtual void write(void* to, const void* from, std::size_t bytes, const Stream& stream) {
    copy(to, stream.device, from, Device::cpu(), bytes, stream);
  }
};

/// Makes a backend available. It must outlive every tensor on its device; the last registration of a type wins.
void register_backend(DeviceType type, Backend* backend);

/// The backend of a device. @throws DeviceError when this build or machine has none, or the index is out of range.
[[nodiscard]] Backend& backend_of(Device device);

/// Whether tensors can be made on the device; never throws.
[[nodiscard]] bool is_available(Device device);

/// Registers the built-in backends and kernels. Called by the library itself on first use; calling it again is free.
void initialize();

/// Waits for all work queued on the device.
void synchronize(Device device);

[[nodiscard]] MemoryStats memory_stats(Device device);
void reset_peak_memory(Device device);
void empty_cache(Device device);

/// The stream on which this thread's work on the device is queued.
[[nodiscard]] inline Stream stream_of(Device device) {
  return device.is_cpu() ? Stream{} : backend_of(device).stream(device.index);
}

}  // namespace trinix
