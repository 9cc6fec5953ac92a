#include <atomic>
#include <cstring>
#include <new>

#include <trinix/core/capture.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/core/pinned_buffer.h>

namespace trinix {

namespace {

std::atomic<PinnedMemory*> registered[kDeviceTypes] = {};
constexpr std::align_val_t kAlignment{64};

}  // namespace

void register_pinned_memory(DeviceType type, PinnedMemory* pinned) {
  registered[static_cast<int>(type)].store(pinned, std::memory_order_release);
}

PinnedBuffer::PinnedBuffer(std::size_t bytes, Device device) : bytes_(bytes), device_(device) {
  static_cast<void>(backend_of(device));  // registers what there is, and refuses a device that is not there
  pinned_ = registered[static_cast<int>(device.type)].load(std::memory_order_acquire);
  if (pinned_ == nullptr) {
    data_ = ::operator new(bytes, kAlignment);
    return;
  }
  data_ = pinned_->allocate(bytes, device.index);
  try {
    event_ = pinned_->create_event(device.index);
  } catch (...) {
    pinned_->release(data_, device.index);
    throw;
  }
}

PinnedBuffer::~PinnedBuffer() {
  if (pinned_ == nullptr) {
    ::operator delete(data_, kAlignment);
    return;
  }
  try {
    pinned_->wait(event_);
  } catch (...) {  // the device has failed; nothing is on its way any more
  }
  pinned_->destroy_event(event_, device_.index);
  pinned_->release(data_, device_.index);
}

void PinnedBuffer::check(const char* op, const Tensor& tensor) const {
  refuse_in_capture(op, device_);
  if (tensor.device() != device_) {
    detail::fail<DeviceError>(op, "the buffer serves {} and the tensor is on {}", device_, tensor.device());
  }
  const std::size_t bytes = static_cast<std::size_t>(tensor.numel()) * size_of(tensor.dtype());
  if (!tensor.is_contiguous() || bytes > bytes_) {
    detail::fail<ShapeError>(op, "a buffer of {} bytes takes contiguous tensors up to that size, not {} bytes of {}{}",
                             bytes_, bytes, tensor.shape(), tensor.is_contiguous() ? "" : ", strided");
  }
}

void PinnedBuffer::copy(void* to, const void* from, std::size_t bytes) {
  const Stream stream = stream_of(device_);
  if (pinned_ == nullptr) {
    const bool up = from == data_;
    backend_of(device_).copy(to, up ? device_ : Device::cpu(), from, up ? Device::cpu() : device_, bytes, stream);
    return;
  }
  pinned_->enqueue_copy(to, from, bytes, stream);
  pinned_->record(event_, stream);
}

void PinnedBuffer::upload(const Tensor& to) {
  check("upload", to);
  to.storage()->mark_written("upload");
  copy(to.raw_data(), data_, static_cast<std::size_t>(to.numel()) * size_of(to.dtype()));
}

void PinnedBuffer::download(const Tensor& from) {
  check("download", from);
  copy(data_, from.raw_data(), static_cast<std::size_t>(from.numel()) * size_of(from.dtype()));
}

void PinnedBuffer::wait() {
  if (pinned_ != nullptr) pinned_->wait(event_);
}

}  // namespace trinix
