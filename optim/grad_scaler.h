#pragma once

#include <cstdint>

#include <trinix/core/state_dict.h>
#include <trinix/core/tensor.h>

/// @file
/// Scaling a loss up, so that the gradients of f16 activations do not vanish below its smallest number, 2^-24.

namespace trinix::optim {

/// Names and defaults of torch.amp.GradScaler.
struct GradScalerOptions {
  double init_scale = 65536;
  double growth_factor = 2;
  double backoff_factor = 0.5;
  std::int64_t growth_interval = 2000;  ///< steps with finite gradients after which the scale grows
  std::int64_t most_skipped = 100;      ///< as many steps skipped in a row are an error to check()

  /// @throws ConfigError.
  void validate() const;
};

/// A scale that grows as long as gradients stay finite and backs off when they do not. It lives on the device, and
/// nothing here but check() and the state waits for it, so a step with it can be captured (autograd/step_graph.h):
///
/// @code
/// GradScaler scaler(device);
/// scaler.scale(loss).backward();
/// const Tensor norm = grad_norm_tensor(parameters);                    // of the gradients as they are, scaled
/// optimizer.step({.inverse_scale = scaler.inverse(), .norm = norm, .max_norm = 1.0});  // skipped if norm is not
/// finite scaler.update(norm); if (i % 100 == 0) scaler.check();                                    // outside of a
/// captured step
/// @endcode
class GradScaler {
 public:
  /// @throws ConfigError, DeviceError.
  explicit GradScaler(Device device, const GradScalerOptions& options = {});

  /// loss times the scale, in f32 at least. Differentiable. Other things than a loss, such as the gradient that
  /// backward() begins with, can be scaled as well.
  [[nodiscard]] Tensor scale(const Tensor& loss) const;
  /// The scale and its inverse, each one f32 on the device: views that follow update().
  [[nodiscard]] Tensor current() const { return scale_.select(0, 0); }
  [[nodiscard]] Tensor inverse() const { return scale_.select(0, 1); }
  /// Tells the norm of the gradients of the step just made (one f64 on the device; of scaled or unscaled ones, as only
  /// matters whether it is finite). @throws DtypeError, ShapeError, DeviceError.
  void update(const Tensor& norm) const;

  /// How many steps in a row had gradients that were not finite: one i64 on the device.
  [[nodiscard]] Tensor skipped_in_row() const { return counts_.select(0, 1); }
  /// Waits for the device. @throws AutogradError when `most_skipped` steps in a row were skipped: no scale helps then.
  void check() const;
  /// The same for numbers that were read already. @throws AutogradError.
  void check(std::int64_t skipped_in_row, double scale) const;

  [[nodiscard]] const GradScalerOptions& options() const { return options_; }
  /// `scale` (f32), `good_steps` and `skipped_in_row` (i64): handles, not copies. Options are not part of it.
  [[nodiscard]] StateDict state_dict() const;
  /// @throws ConfigError for keys that are missing or do not fit; nothing was loaded then.
  void load_state_dict(const StateDict& state) const;

 private:
  GradScalerOptions options_;
  Tensor scale_;   // f32 (2): the scale, its inverse
  Tensor counts_;  // i64 (2): good steps since the scale changed, steps skipped in a row
};

}  // namespace trinix::optim
