#include <atomic>

#include <trinix/core/backend.h>
#include <trinix/core/capture.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>

namespace trinix {

namespace {
std::atomic<Backend*> backends[kDeviceTypes] = {};
}

void Backend::begin_capture(int) {
  detail::fail<DeviceError>("capture", "this device cannot record work; run the step eagerly");
}

std::unique_ptr<DeviceGraph> Backend::end_capture(int) {
  detail::fail<DeviceError>("capture", "this device cannot record work; run the step eagerly");
}

void Backend::abandon_capture(int) noexcept {}

void register_backend(DeviceType type, Backend* backend) { backends[static_cast<int>(type)].store(backend); }

Backend& backend_of(Device device) {
  auto& slot = backends[static_cast<int>(device.type)];
  Backend* found = slot.load(std::memory_order_acquire);
  if (found == nullptr) {
    initialize();
    found = slot.load(std::memory_order_acquire);
  }
  if (found == nullptr) {
    detail::fail<DeviceError>("device",
                              "{} was asked for, but this build has no backend for it: build with "
                              "TRINIX_CUDA=ON",
                              device);
  }
  const int count = found->device_count();
  if (count == 0) {
    detail::fail<DeviceError>("device", "{} was asked for, but {}", device, found->why_unavailable());
  }
  if (device.index < 0 || device.index >= count) {
    detail::fail<DeviceError>("device", "{} was asked for, but there {} {}, numbered from 0", device,
                              count == 1 ? "is" : "are", count);
  }
  return *found;
}

bool is_available(Device device) {
  initialize();
  const Backend* found = backends[static_cast<int>(device.type)].load();
  return found != nullptr && device.index >= 0 && device.index < found->device_count();
}

void synchronize(Device device) {
  refuse_in_capture("synchronize", device);
  backend_of(device).synchronize(device.index);
}
MemoryStats memory_stats(Device device) { return backend_of(device).memory_stats(device.index); }
void reset_peak_memory(Device device) { backend_of(device).reset_peak_memory(device.index); }
void empty_cache(Device device) { backend_of(device).empty_cache(device.index); }

}  // namespace trinix
