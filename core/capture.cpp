#include <atomic>
#include <utility>

#include <trinix/core/capture.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>

namespace trinix {

using detail::fail;

namespace {

thread_local Capture* in_progress = nullptr;

std::uint64_t next_id() {
  static std::atomic<std::uint64_t> next{1};
  return next.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace

Capture* Capture::current() noexcept { return in_progress; }

Capture::Capture(Device device) : device_(device), id_(next_id()) {
  if (in_progress != nullptr) {
    fail<CaptureError>("capture",
                       "a step is being captured on this thread already; a captured step cannot hold another");
  }
  backend_of(device_).begin_capture(device_.index);
  in_progress = this;
  recording_ = true;
}

Capture::~Capture() {
  if (recording_) {
    in_progress = nullptr;
    backend_of(device_).abandon_capture(device_.index);
    rewind_generators();
  }
  hooks_.clear();
  conditions_.clear();
  graph_.reset();  // waits for its last replay, which may still use what follows
  kept_.clear();
  release_memory();
}

void Capture::release_memory() noexcept {
  for (const auto& [data, bytes] : memory_) backend_of(device_).release(data, bytes, device_.index);
  memory_.clear();
}

void* Capture::memory(std::size_t bytes) {
  void* data = backend_of(device_).allocate_apart(bytes, device_.index);
  memory_.emplace_back(data, bytes);
  return data;
}

void* Capture::upload(const void* from, std::size_t bytes) {
  void* to = memory(bytes);
  const char* first = static_cast<const char*>(from);
  pending_.push_back({to, std::vector<char>(first, first + bytes)});
  return to;
}

const std::uint64_t* Capture::random_word(Generator& generator, const RandomState& begin) {
  for (const Source& source : sources_) {
    if (source.generator != &generator) continue;
    if (source.begin.seed == begin.seed) return source.word;
    fail<CaptureError>("capture",
                       "a generator changed its seed from {} to {} while a step is being captured; set its state "
                       "before the step",
                       source.begin.seed, begin.seed);
  }
  auto* word = static_cast<std::uint64_t*>(memory(sizeof(std::uint64_t)));
  sources_.push_back({&generator, begin, 0, word});
  return word;
}

void Capture::rewind_generators() {
  for (Source& source : sources_) {
    source.used = source.generator->state().offset - source.begin.offset;
    source.generator->set_state(source.begin);
  }
}

void Capture::finish() {
  recording_ = false;
  in_progress = nullptr;
  rewind_generators();
  graph_ = backend_of(device_).end_capture(device_.index);
  const Stream stream = stream_of(device_);
  for (const Pending& p : pending_) {
    backend_of(device_).copy(p.to, device_, p.bytes.data(), Device::cpu(), p.bytes.size(), stream);
  }
  pending_.clear();
}

bool Capture::is_outdated() const {
  for (const auto& holds : conditions_) {
    if (!holds()) return true;
  }
  for (const Source& source : sources_) {
    if (source.generator->state().seed != source.begin.seed) return true;
  }
  return false;
}

void Capture::replay() {
  const Stream stream = stream_of(device_);
  for (const Hook& hook : hooks_) hook(stream);
  for (const Source& source : sources_) {
    const std::uint64_t extra = source.generator->skip(source.used).offset - source.begin.offset;
    backend_of(device_).write(source.word, &extra, sizeof(extra), stream);
  }
  graph_->replay(stream);
}

void refuse_in_capture(const char* op, Device device) {
  const Capture* capture = Capture::current();
  if (capture == nullptr || capture->device() != device) return;
  fail<CaptureError>(op,
                     "'{}' waits for {} or moves data between it and the host, but a step is being captured there and "
                     "nothing runs until it is replayed; return the tensor from the step and look at it afterwards",
                     op, device);
}

}  // namespace trinix
