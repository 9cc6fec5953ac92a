#pragma once

#include <cstddef>

#include <trinix/core/backend.h>
#include <trinix/core/tensor.h>

/// @file
/// Copies between host and device during which the host goes on working.

namespace trinix {

/// What a device needs for them: page-locked host memory, which the card reads and writes by itself, and events, marks
/// in a stream that the host can wait for. A device without it works in step with the host.
class PinnedMemory {
 public:
  virtual ~PinnedMemory() = default;
  /// @throws OutOfMemory
  [[nodiscard]] virtual void* allocate(std::size_t bytes, int index) = 0;
  virtual void release(void* data, int index) noexcept = 0;
  [[nodiscard]] virtual void* create_event(int index) = 0;
  virtual void destroy_event(void* event, int index) noexcept = 0;
  /// Queues a copy; both ends must stay as they are until an event recorded behind it has come.
  virtual void enqueue_copy(void* to, const void* from, std::size_t bytes, const Stream& stream) = 0;
  virtual void record(void* event, const Stream& stream) = 0;
  virtual void wait(void* event) = 0;
};

/// Makes it available; the backend of the type calls this when it registers itself.
void register_pinned_memory(DeviceType type, PinnedMemory* pinned);

/// Host memory for copies to and from one device, one at a time:
///
///     PinnedBuffer staging(bytes, device);
///     fill(staging.data());
///     staging.upload(tensor);     // returns at once
///     ...
///     staging.wait();             // now the buffer may be filled again
class PinnedBuffer {
 public:
  /// @throws OutOfMemory, DeviceError
  PinnedBuffer(std::size_t bytes, Device device);
  ~PinnedBuffer();
  PinnedBuffer(const PinnedBuffer&) = delete;
  PinnedBuffer& operator=(const PinnedBuffer&) = delete;

  [[nodiscard]] void* data() const { return data_; }
  [[nodiscard]] std::size_t bytes() const { return bytes_; }

  /// Queues a copy of the buffer's first bytes over the whole of a contiguous tensor on the device.
  /// @throws ShapeError when the tensor is strided or larger than the buffer, DeviceError when it is elsewhere
  void upload(const Tensor& to);
  /// Queues a copy of the whole of a contiguous tensor to the buffer's first bytes; they are there after wait().
  /// @throws as upload()
  void download(const Tensor& from);
  /// Waits until the copies queued so far have been carried out, and with them all work queued before.
  void wait();

 private:
  void check(const char* op, const Tensor& tensor) const;
  void copy(void* to, const void* from, std::size_t bytes);

  std::size_t bytes_;
  Device device_;
  PinnedMemory* pinned_;  // null where the device works in step with the host
  void* data_ = nullptr;
  void* event_ = nullptr;
};

}  // namespace trinix
