#pragma once

#include <functional>
#include <memory>
#include <vector>

#include <trinix/core/capture.h>
#include <trinix/core/tensor.h>

/// @file
/// A whole training step as one piece of work for the device.

namespace trinix {

struct StepGraphOptions {
  /// Steps that run eagerly before one is captured: the first makes gradients and the optimizer's state and times
  /// matrix products. They are steps like all others.
  int warmup = 2;
};

/// Runs a step function again and again. On CUDA it is called for the first few steps and captured during the next;
/// from then on each call replays what was recorded, which costs the host microseconds instead of the launches of
/// thousands of kernels. On the CPU, and on devices that cannot record, every call is a call of the function. Either
/// way the results are the same, bit for bit in deterministic mode.
///
/// @code
/// StepGraph step(device, [&](const std::vector<Tensor>& in) -> std::vector<Tensor> {
///   optimizer.zero_grad();
///   const Tensor loss = model.loss(in[0], in[1]);
///   loss.backward();
///   const Tensor norm = optim::grad_norm_tensor(parameters);
///   optimizer.step({.norm = norm, .max_norm = 1.0});
///   return {loss, norm};
/// });
/// for (std::int64_t i = 0; i < steps; ++i) {
///   optimizer.set_lr(schedule.at(i));
///   const auto& out = step({inputs, targets});            // host or device tensors
///   if (i % 10 == 0) print(out[0].item<float>());         // waits for the device, so not at every step
/// }
/// @endcode
///
/// The function is called once for many steps, so all that differs between them must reach it in one of these ways:
/// - inputs, which are copied into fixed buffers (the function gets the buffers);
/// - the learning rate and other options of the optimizer, set before the call; the optimizer counts the steps;
/// - generators, whose numbers go on from replay to replay exactly as they would eagerly;
/// - tensors changed in place between calls, such as parameters.
/// Any other value that its C++ code computes is that of the captured call. Within the function:
/// - gradients are cleared (zero_grad()) before the first backward; several backwards accumulate as ever;
/// - item(), to_vector(), copies to and from the host and synchronize() throw CaptureError: return a tensor instead;
/// - nothing may be kept that the next step replaces, and no other thread may use the device.
/// Optimizers, generators and tensors that the function uses must outlive the object, and tensors stay where they are.
/// If an optimizer's state is loaded or its parameters move, or a generator gets another seed, the step is captured
/// anew. Activations live in memory of the object's own, returned when it goes.
class StepGraph {
 public:
  using Step = std::function<std::vector<Tensor>(const std::vector<Tensor>& inputs)>;

  /// @throws ConfigError unless warmup is at least 1.
  StepGraph(Device device, Step step, const StepGraphOptions& options = {});

  /// Makes one step and returns what the function returned, without history. The tensors hold the results until the
  /// next call, which overwrites them. Inputs of other shapes or dtypes than the last ones are made eagerly (`warmup`
  /// steps) and captured anew, with a remark to the log. @throws what the function throws, CaptureError.
  const std::vector<Tensor>& operator()(const std::vector<Tensor>& inputs = {});

  /// The buffers that the function reads; empty before the first call, and on devices that cannot record. Writing to
  /// them and passing them to the next call saves a copy.
  [[nodiscard]] const std::vector<Tensor>& inputs() const { return inputs_; }
  /// Whether the next call with inputs like the last ones replays.
  [[nodiscard]] bool is_captured() const { return capture_ != nullptr; }
  /// Forgets the recording and returns its memory. The next call starts with eager steps again.
  void reset();

 private:
  void take_inputs(const std::vector<Tensor>& given);
  void run_eagerly(const std::vector<Tensor>& inputs);
  void record();

  Device device_;
  Step step_;
  StepGraphOptions options_;
  int eager_left_;
  std::vector<Tensor> inputs_;
  std::vector<Tensor> outputs_;
  std::unique_ptr<Capture> capture_;
};

}  // namespace trinix
