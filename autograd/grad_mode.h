#pragma once

/// @file
/// Whether ops record gradients, per thread.

namespace trinix {

/// Whether ops called on this thread record gradients. On at the start of every thread.
[[nodiscard]] bool grad_enabled();

/// Sets the mode while it lives.
class GradMode {
 public:
  explicit GradMode(bool enabled);
  ~GradMode();
  GradMode(const GradMode&) = delete;
  GradMode& operator=(const GradMode&) = delete;

 private:
  bool previous_;
};

/// Nothing is recorded while it lives.
class NoGrad : public GradMode {
 public:
  NoGrad() : GradMode(false) {}
};

/// Gradients are recorded while it lives, also inside a NoGrad.
class EnableGrad : public GradMode {
 public:
  EnableGrad() : GradMode(true) {}
};

/// While it lives, every op on this thread checks what it computes, forward and backward; the first NaN or infinity
/// throws an AutogradError naming the op. Slow: for finding a fault, not for training.
class AnomalyMode {
 public:
  explicit AnomalyMode(bool enabled = true);
  ~AnomalyMode();
  AnomalyMode(const AnomalyMode&) = delete;
  AnomalyMode& operator=(const AnomalyMode&) = delete;

  [[nodiscard]] static bool enabled();

 private:
  bool previous_;
};

}  // namespace trinix
