#pragma once

#include <cstdint>
#include <vector>

#include <trinix/core/ops/moving_average.h>
#include <trinix/core/state_dict.h>
#include <trinix/core/tensor.h>

/// @file
/// An exponential moving average of a model's weights, which is often better than the weights themselves. Polyak and
/// Juditsky (1992); Morales-Brotons et al., arXiv 2411.18704.

namespace trinix::optim {

/// Follows parameters: after t updates the average is
///   sum over k of decay^(t-k) p_k / sum over k of decay^(t-k),   k = 1 ... t.
/// The weights from before the first update have no part in it (as in Adam's bias correction, arXiv 1412.6980), so the
/// average of a short run is worth something too. Averages are in f32 for 16-bit parameters.
///
/// @code
/// Ema ema(model.named_parameters(), 0.999);
/// ... optimizer.step(); ema.update();
/// { const Ema::Scope averaged(ema); evaluate(model); }
/// @endcode
class Ema {
 public:
  /// @throws ConfigError unless decay lies in (0, 1), or for no parameters, an undefined one or a name used twice;
  ///   DtypeError for integers.
  Ema(std::vector<NamedTensor> parameters, double decay);

  /// Takes the parameters' present values in: one launch per device. Can be captured.
  /// @throws ShapeError when a parameter has got another shape.
  void update();
  /// Updates made.
  [[nodiscard]] std::int64_t updates() const { return updates_; }
  [[nodiscard]] double decay() const { return decay_; }

  /// The average of each parameter under its name, in new memory. @throws ConfigError before the first update.
  [[nodiscard]] StateDict averages() const;
  /// Writes the averages over the parameters. @throws as averages()
  void copy_to_parameters() const;

  /// Parameters hold their averages while it lives, and then what they held before. Before the first update it does
  /// nothing.
  class Scope {
   public:
    explicit Scope(const Ema& ema);
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    const Ema& ema_;
    std::vector<Tensor> before_;
  };

  /// `updates` (i64) and for each parameter p `sum.p`, which averages() divides by 1 - decay^updates: handles, not
  /// copies.
  [[nodiscard]] StateDict state_dict() const;
  /// @throws ConfigError for another model's state; nothing was loaded then.
  void load_state_dict(const StateDict& state);

 private:
  [[nodiscard]] Tensor average_of(std::size_t i) const;
  /// Makes the sums where and in which type they have to be.
  void prepare();

  std::vector<NamedTensor> parameters_;
  double decay_;
  std::int64_t updates_ = 0;
  std::vector<Tensor> sums_;
};

}  // namespace trinix::optim
