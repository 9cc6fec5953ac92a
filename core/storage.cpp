#include <utility>

#include <trinix/core/backend.h>
#include <trinix/core/storage.h>

namespace trinix {

Storage::Storage(std::size_t bytes, Device device)
    : data_(backend_of(device).allocate(bytes, device.index)), bytes_(bytes), device_(device) {}

Storage::Storage(void* data, std::size_t bytes, Device device, std::function<void(void*)> deleter)
    : data_(data), bytes_(bytes), device_(device), deleter_(std::move(deleter)), foreign_(true) {}

Storage::~Storage() {
  if (!foreign_) {
    backend_of(device_).release(data_, bytes_, device_.index);
  } else if (deleter_) {
    deleter_(data_);
  }
}

}  // namespace trinix
