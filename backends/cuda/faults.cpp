#include <array>
#include <atomic>
#include <cuda_runtime_api.h>
#include <mutex>
#include <new>
#include <string>
#include <vector>

#include <trinix/backends/cuda/check.h>
#include <trinix/backends/cuda/faults.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>

namespace trinix::cuda {

namespace {

constexpr int kMostCards = 256;

/// Kept until the process ends: kernels may be queued until then.
std::array<FaultMemory, kMostCards> memories;

struct Site {
  std::string op;
  std::string what;
  bool target;
};

std::mutex sites_mutex;
std::vector<Site> sites;  // site number i is at i - 1; few, because they are named by ops and not by calls

std::int32_t site_number(const char* op, const char* what, bool target) {
  const std::lock_guard lock(sites_mutex);
  for (std::size_t i = 0; i < sites.size(); ++i) {
    if (sites[i].target == target && sites[i].op == op && sites[i].what == what)
      return static_cast<std::int32_t>(i + 1);
  }
  sites.push_back({op, what, target});
  return static_cast<std::int32_t>(sites.size());
}

Site site_at(std::int32_t number) {
  const std::lock_guard lock(sites_mutex);
  return sites[static_cast<std::size_t>(number - 1)];
}

}  // namespace

void prepare_faults(int device) {
  if (device >= kMostCards) trinix::detail::fail<DeviceError>("cuda", "cuda:{} is one card too many", device);
  const DeviceGuard guard(device);
  FaultMemory& memory = memories[static_cast<std::size_t>(device)];
  void* record = nullptr;
  check(cudaHostAlloc(&record, sizeof(Fault), cudaHostAllocMapped), "cudaHostAlloc");
  memory.fault = new (record) Fault{};
  void* scratch = nullptr;
  check(cudaMalloc(&scratch, sizeof(FaultScratch)), "cudaMalloc");
  check(cudaMemset(scratch, 0, sizeof(FaultScratch)), "cudaMemset");
  check(cudaStreamSynchronize(nullptr), "cudaStreamSynchronize");  // the card's own stream does not wait for this one
  memory.scratch = static_cast<FaultScratch*>(scratch);
}

FaultMemory fault_memory(int device) {
  const FaultMemory memory = memories[static_cast<std::size_t>(device)];
  if (memory.fault == nullptr) trinix::detail::fail<DeviceError>("cuda", "cuda:{} was used before its stream", device);
  return memory;
}

std::int32_t index_fault_site(const char* op, const char* what) { return site_number(op, what, false); }
std::int32_t target_fault_site(const char* op) { return site_number(op, "", true); }

void throw_fault(int device) {
  Fault* const record = memories[static_cast<std::size_t>(device)].fault;
  if (record == nullptr) return;
  const std::int32_t number = std::atomic_ref(record->site).exchange(0);
  if (number == 0) return;
  const Site site = site_at(number);
  constexpr const char* kLate =
      "found on the card and raised at the first synchronisation since; what was computed with it is to be discarded";
  if (site.target) {
    trinix::detail::fail<IndexError>(site.op.c_str(),
                                     "target {} at position {} is not in [0, {}), the classes of the logits, nor is it "
                                     "ignore_index ({}); {}",
                                     record->index, record->position, record->size, record->ignored, kLate);
  }
  trinix::detail::fail<IndexError>(site.op.c_str(), "index {} at position {} is out of range for {} {}; {}",
                                   record->index, record->position, record->size, site.what, kLate);
}

}  // namespace trinix::cuda
