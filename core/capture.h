#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include <trinix/core/backend.h>
#include <trinix/core/generator.h>

/// @file
/// Recording a thread's work on one device, to run it again as a whole. Users meet it as StepGraph
/// (autograd/step_graph.h); this is the part that ops, generators and optimizers see.
///
/// A replay repeats kernels with the very arguments they were recorded with. What must differ from step to step
/// therefore lives in device memory, and host code that would have run in an eager step is registered with on_replay().

namespace trinix {

class Capture {
 public:
  using Hook = std::function<void(const Stream&)>;

  /// Starts recording this thread's work on `device`. @throws DeviceError where the device cannot, CaptureError when
  /// this thread records already.
  explicit Capture(Device device);
  /// Forgets what was recorded if finish() was not reached, and leaves generators where they were.
  ~Capture();
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;

  /// The recording that is in progress on this thread, or null.
  [[nodiscard]] static Capture* current() noexcept;
  [[nodiscard]] Device device() const { return device_; }
  /// Differs from that of every other capture of the process; never 0.
  [[nodiscard]] std::uint64_t id() const { return id_; }

  // For code that runs while recording -------------------------------------------------------------------------------
  /// Has `hook` called before each replay, the first included. What it queues on the stream is done before the replayed
  /// work begins.
  void on_replay(Hook hook) { hooks_.push_back(std::move(hook)); }
  /// Replays are the same as eager steps only as long as `holds` returns true; see is_outdated().
  void require(std::function<bool()> holds) { conditions_.push_back(std::move(holds)); }
  /// Keeps what recorded kernels point to alive as long as the recording.
  void keep(std::shared_ptr<const void> thing) { kept_.push_back(std::move(thing)); }
  /// Device memory that recorded kernels may read and that only hooks write; lives as long as the recording.
  [[nodiscard]] void* memory(std::size_t bytes);
  /// Such memory with these contents, written before the first replay.
  [[nodiscard]] void* upload(const void* from, std::size_t bytes);
  /// Where a state that starts at `begin` finds what it must add to its offset.
  [[nodiscard]] const std::uint64_t* random_word(Generator& generator, const RandomState& begin);

  // For the one who records -------------------------------------------------------------------------------------------
  /// Ends the recording. Nothing has run yet, and generators are back where they were when it began.
  void finish();
  /// Runs the hooks, moves the generators on, and queues the recorded work.
  void replay();
  /// Whether replays would not do what eager steps do: a condition is no longer met, such as that tensors lie where
  /// they did, or a generator has got another seed.
  [[nodiscard]] bool is_outdated() const;

 private:
  struct Source {
    Generator* generator;
    RandomState begin;       ///< of the recorded step
    std::uint64_t used = 0;  ///< blocks of four numbers per step
    std::uint64_t* word = nullptr;
  };
  struct Pending {
    void* to;
    std::vector<char> bytes;
  };

  void rewind_generators();
  void release_memory() noexcept;

  Device device_;
  std::uint64_t id_;
  bool recording_ = false;
  std::vector<Hook> hooks_;
  std::vector<std::function<bool()>> conditions_;
  std::vector<std::shared_ptr<const void>> kept_;
  std::vector<std::pair<void*, std::size_t>> memory_;
  std::vector<Pending> pending_;
  std::vector<Source> sources_;
  std::unique_ptr<DeviceGraph> graph_;
};

/// Throws when a step is being captured on this thread and device: `op` waits for the device or reads and writes host
/// memory, which no replay would repeat. @throws CaptureError naming the op.
void refuse_in_capture(const char* op, Device device);

}  // namespace trinix
