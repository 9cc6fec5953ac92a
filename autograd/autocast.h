#pragma once

#include <memory>
#include <optional>

#include <trinix/core/dtype.h>
#include <trinix/core/tensor.h>

/// @file
/// Mixed precision: products in 16 bits, where the time goes, and in f32 what needs digits or range, while parameters
/// stay what they are. Micikevicius et al., "Mixed Precision Training", arXiv 1710.03740.
///
/// In the low dtype, whatever floating-point type the operands have but f64:
///   matmul, linear, scaled_dot_product_attention and its packed, variable-length and with-lse forms (their scores and
///   sums are f32 inside).
/// In f32, if an operand is f16 or bf16:
///   exp, expm1, log, log1p, log2, pow, reciprocal, rsqrt, tan, softplus, number / tensor;
///   sum, mean, prod, cumsum, var, norm, logsumexp; softmax, log_softmax;
///   layer_norm, rms_norm and their fused forms, with weights of either type; losses. cross_entropy takes 16-bit logits
///   as they are, for it computes in f32 anyway, and returns f32.
/// Everything else runs in the type that its operands promote to: bf16 + f32 is f32. f64 and integers are left alone.
///
/// Casts are recorded, so gradients arrive in the dtype of the parameter. The cast of a leaf that requires grad is made
/// once per scope, and again when the leaf was written since. Backward runs in the types that the forward ran in,
/// wherever backward() is called. For f16, scale the loss (optim/grad_scaler.h).

namespace trinix {

/// Mixed precision for ops called on this thread while it lives:
/// @code
/// const Tensor loss = [&] { const Autocast scope(DType::bf16); return model.loss(x, y); }();
/// loss.backward();
/// @endcode
/// Scopes nest; the innermost one decides, and each remembers its own casts.
class Autocast {
 public:
  /// @throws DtypeError unless `dtype` is bf16 or f16.
  explicit Autocast(DType dtype);
  ~Autocast();
  Autocast(const Autocast&) = delete;
  Autocast& operator=(const Autocast&) = delete;

  /// The low dtype in force on this thread, or none.
  [[nodiscard]] static std::optional<DType> current();
  /// The leaf in the low dtype, remembered. Call where one is in force.
  [[nodiscard]] static Tensor cast_leaf(const Tensor& leaf);

 private:
  class Casts;

  DType dtype_;
  std::unique_ptr<Casts> casts_;
  Autocast* outer_;
};

/// No mixed precision while it lives: for a part of a model that needs its digits.
class NoAutocast {
 public:
  NoAutocast();
  ~NoAutocast();
  NoAutocast(const NoAutocast&) = delete;
  NoAutocast& operator=(const NoAutocast&) = delete;

 private:
  Autocast* outer_;
};

}  // namespace trinix
