#include <algorithm>
#include <cstdlib>
#include <cuda_runtime_api.h>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <optional>
#include <sstream>
#include <string>
#include <unistd.h>
#include <vector>

#include <trinix/backends/cuda/blas/library.h>
#include <trinix/backends/cuda/blas/tuning.h>
#include <trinix/backends/cuda/check.h>
#include <trinix/core/deterministic.h>

namespace trinix::cuda {

namespace {

constexpr std::size_t kWorkspaceBytes = std::size_t{64} << 20;
constexpr int kCandidates = 24;
constexpr int kRuns = 5;

/// Results of a card model and library version: the choice is an index into a list that both determine. The number is
/// that of the format of a line and of what kernels are asked for (product.cpp).
std::string file_name(int device) {
  cudaDeviceProp p{};
  check(cudaGetDeviceProperties(&p, device), "cudaGetDeviceProperties");
  std::string model(p.name);
  std::replace_if(
      model.begin(), model.end(), [](char c) { return std::isalnum(static_cast<unsigned char>(c)) == 0; }, '_');
  return "matmul_3_" + model + "_" + std::to_string(blas_library().version()) + ".txt";
}

std::filesystem::path cache_folder() {
  if (const char* cache = std::getenv("XDG_CACHE_HOME"); cache != nullptr && *cache != '\0') {
    return std::filesystem::path(cache) / "trinix";
  }
  if (const char* home = std::getenv("HOME"); home != nullptr && *home != '\0') {
    return std::filesystem::path(home) / ".cache" / "trinix";
  }
  return {};
}

/// Choices known so far. The file is a hint, never needed: any failure to read or write it is passed over.
class Choices {
 public:
  explicit Choices(int device) {
    const auto folder = cache_folder();
    if (folder.empty()) return;
    path_ = folder / file_name(device);
    std::ifstream in(path_);
    for (std::string line; std::getline(in, line);) {
      std::istringstream fields(line);
      ProductKey key{};
      std::size_t choice = 0;
      for (auto& k : key) fields >> k;
      if (fields >> choice) choices_[key] = choice;
    }
  }

  const std::size_t* find(const ProductKey& key) const {
    const auto it = choices_.find(key);
    return it == choices_.end() ? nullptr : &it->second;
  }

  void add(const ProductKey& key, std::size_t choice) {
    choices_[key] = choice;
    if (path_.empty()) return;
    std::error_code ignored;
    std::filesystem::create_directories(path_.parent_path(), ignored);
    // One short line in one write: processes that append at the same time do not mix theirs.
    std::ostringstream line;
    for (const auto k : key) line << k << ' ';
    line << choice << '\n';
    std::ofstream(path_, std::ios::app) << line.str();
  }

 private:
  std::filesystem::path path_;
  std::map<ProductKey, std::size_t> choices_;
};

/// Median milliseconds of a way to queue something, or infinity when it refuses.
double measure(const Stream& stream, const std::function<void()>& run) {
  cudaEvent_t begin = nullptr;
  cudaEvent_t end = nullptr;
  check(cudaEventCreate(&begin), "cudaEventCreate");
  check(cudaEventCreate(&end), "cudaEventCreate");
  std::vector<float> times;
  const auto queue = static_cast<cudaStream_t>(stream.native);
  try {
    run();  // loads the kernel
    for (int r = 0; r < kRuns; ++r) {
      check(cudaEventRecord(begin, queue), "cudaEventRecord");
      run();
      check(cudaEventRecord(end, queue), "cudaEventRecord");
      check(cudaEventSynchronize(end), "cudaEventSynchronize");
      float ms = 0;
      check(cudaEventElapsedTime(&ms, begin, end), "cudaEventElapsedTime");
      times.push_back(ms);
    }
  } catch (const std::exception&) {
    times.clear();  // a candidate that the heuristic lists and the library then refuses is no candidate
  }
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  if (times.empty()) return std::numeric_limits<double>::infinity();
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

/// The choices of all devices. Measuring happens outside the lock: a way that is measured asks for choices itself.
struct Memory {
  std::mutex mutex;
  std::map<int, Choices> by_device;

  static Memory& instance() {
    static Memory memory;
    return memory;
  }
  Choices& of(int device) { return by_device.try_emplace(device, device).first->second; }
};

std::optional<std::size_t> known_choice(int device, const ProductKey& key) {
  Memory& memory = Memory::instance();
  const std::lock_guard lock(memory.mutex);
  const std::size_t* known = memory.of(device).find(key);
  return known == nullptr ? std::nullopt : std::optional(*known);
}

void remember_choice(int device, const ProductKey& key, std::size_t choice) {
  Memory& memory = Memory::instance();
  const std::lock_guard lock(memory.mutex);
  memory.of(device).add(key, choice);
}

bool is_capturing(const Stream& stream) {
  cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
  check(cudaStreamIsCapturing(static_cast<cudaStream_t>(stream.native), &capture), "cudaStreamIsCapturing");
  return capture != cudaStreamCaptureStatusNone;
}

}  // namespace

const Workspace& workspace_of(int device) {
  static std::mutex mutex;
  static std::map<int, Workspace> workspaces;
  const std::lock_guard lock(mutex);
  Workspace& w = workspaces[device];
  if (w.data == nullptr) {
    w.data = backend_of(Device::cuda(device)).allocate(kWorkspaceBytes, device);
    w.bytes = kWorkspaceBytes;
  }
  return w;
}

int tuning_candidates() {
  static const char* const setting = std::getenv("TRINIX_MATMUL_TUNING");
  const bool off = (setting != nullptr && std::string(setting) == "0") || is_deterministic();
  return off ? 1 : kCandidates;
}

std::size_t tuned_choice(const ProductKey& key, const Product& product, int device, std::size_t candidates,
                         const RunCandidate& run) {
  if (candidates <= 1) return 0;
  if (const auto known = known_choice(device, key)) return *known < candidates ? *known : 0;
  const Stream stream = stream_of(Device::cuda(device));
  if (flops_of(product) < kWorthTuning || is_capturing(stream)) return 0;
  Product trial = product;
  Backend& backend = backend_of(Device::cuda(device));
  const std::int64_t elements =
      (product.batch - 1) * product.out.batch_stride + (product.m - 1) * product.out.ld + product.n;
  const std::size_t bytes = static_cast<std::size_t>(elements) * size_of(product.dtype);
  trial.out.data = backend.allocate(bytes, device);
  backend.zero(trial.out.data, bytes, stream);
  std::size_t best = 0;
  double best_time = std::numeric_limits<double>::infinity();
  for (std::size_t i = 0; i < candidates; ++i) {
    const double time = measure(stream, [&] { run(i, trial, stream); });
    if (time < best_time) {
      best = i;
      best_time = time;
    }
  }
  backend.release(trial.out.data, bytes, device);
  remember_choice(device, key, best);
  return best;
}

std::size_t tuned_way(const ProductKey& key, const Stream& stream, const std::array<std::function<void()>, 2>& ways,
                      bool may_measure) {
  if (tuning_candidates() <= 1) return 0;
  const int device = stream.device.index;
  if (const auto known = known_choice(device, key)) return *known == 1 ? 1 : 0;
  if (!may_measure || is_capturing(stream)) return 0;
  const std::size_t best = measure(stream, ways[1]) < measure(stream, ways[0]) ? 1 : 0;
  remember_choice(device, key, best);
  return best;
}

}  // namespace trinix::cuda
