#pragma once

#include "support/on_device.h"

#include <functional>
#include <limits>
#include <string>
#include <vector>

#include <trinix/trinix.h>

/// @file
/// The one way in which ops are tested. An OpCase names a differentiable function, its inputs and an independent
/// reference in double precision; run_op_case() takes it through every dtype, memory layout and kernel:
///  - forward against the reference, within the dtype's tolerance;
///  - gradient in f64 against finite differences;
///  - gradient in the other dtypes against the f64 gradient for the same (rounded) inputs;
///  - for ops with a choice of kernel: each kernel's error at most twice that of the composed reference in the same
///  dtype.

namespace trinix::testing {

/// A dense row-major array in double precision, for references that share no code with the library.
struct Array {
  Shape shape;
  std::vector<double> values;

  [[nodiscard]] std::int64_t size(int d) const { return shape[d < 0 ? d + shape.size() : d]; }
  double& operator[](std::size_t i) { return values[i]; }
  const double& operator[](std::size_t i) const { return values[i]; }
};

/// How an input lies in memory.
enum class Layout {
  contiguous,
  transposed,  ///< dims in reverse order in memory
  sliced,      ///< every second element of a larger tensor, from an odd offset
  broadcast,   ///< the first dim larger than 1 repeats one slice; expanded inside the differentiated function
};

struct OpCase {
  std::string name;
  /// Shapes of the floating-point inputs. Include odd sizes: tails are where kernels fail.
  std::vector<Shape> inputs;
  /// The function is called with inputs on every device: whatever else it makes belongs on x[0].device().
  std::function<Tensor(const std::vector<Tensor>&, KernelChoice)> function;
  /// The same function on doubles. Required: what else would tell right from wrong?
  std::function<Array(const std::vector<Array>&)> reference;
  double low = -2.0;  ///< inputs are drawn uniformly from [low, high)
  double high = 2.0;
  bool differentiable = true;
  bool has_kernels = false;  ///< the function heeds the KernelChoice
  std::vector<DType> dtypes = {DType::f64, DType::f32, DType::bf16, DType::f16};
  /// Relative Frobenius error allowed per dtype, in the order f64, f32, bf16, f16.
  std::vector<double> tolerance = {1e-12, 2e-6, 1e-2, 2e-3};
  std::vector<Layout> layouts = {Layout::contiguous, Layout::transposed, Layout::sliced, Layout::broadcast};
  /// Turns the drawn values of input i into sensible ones (positive, distinct, ...) if the range alone does not.
  std::function<void(std::size_t input, std::vector<double>& values)> prepare;
};

/// Runs everything; failures are reported through GoogleTest with case, device, dtype, layout and kernel.
void run_op_case(const OpCase& op_case);

/// ||a - b|| / ||b||, with 0 / 0 = 0; infinities and NaN must agree in place or the result is infinite.
[[nodiscard]] double relative_error(const std::vector<double>& a, const std::vector<double>& b);

/// A tensor of these values (rounded to the dtype) in the given layout. For Layout::broadcast the values must repeat.
[[nodiscard]] Tensor make_tensor(const std::vector<double>& values, const Shape& shape, DType dtype, Layout layout,
                                 Device device = {});

/// Deterministic uniform values.
[[nodiscard]] std::vector<double> random_values(std::size_t count, std::uint64_t seed, double low = -2,
                                                double high = 2);

/// The same as a tensor on the CPU.
[[nodiscard]] inline Tensor random(const Shape& shape, std::uint64_t seed, DType dtype = DType::f32) {
  return from_vector(random_values(static_cast<std::size_t>(numel(shape)), seed), shape).to(dtype);
}

inline constexpr double kInfinity = std::numeric_limits<double>::infinity();
inline constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

/// Whether only what is done to memory matters: in the build with sanitizers (tests/CMakeLists.txt), where what runs
/// the same kernels on the same memory again and again may take fewer turns.
[[nodiscard]] bool only_memory_matters();

/// Values of an Array as a tensor and back.
[[nodiscard]] Array to_array(const Tensor& t);

/// Notes which kernels ran on this thread since the last call; the coverage test asks for all of them at the end.
void note_kernels_run();
/// Notes that this machine's device cannot run a kernel, so that nobody asks for it.
void note_kernel_left_out(const std::string& op, const std::string& kernel);

}  // namespace trinix::testing
