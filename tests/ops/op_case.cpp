#include "op_case.h"

#include <cmath>
#include <cstdlib>
#include <gtest/gtest.h>
#include <limits>
#include <set>

#include <trinix/autograd/gradcheck.h>
#include <trinix/core/philox.h>

namespace trinix::testing {

namespace {

std::string_view name(Layout layout) {
  constexpr std::string_view names[] = {"contiguous", "transposed", "sliced", "broadcast"};
  return names[static_cast<int>(layout)];
}

/// First dim with more than one element, or -1.
int repeated_dim(const Shape& shape) {
  for (int d = 0; d < shape.size(); ++d) {
    if (shape[d] > 1) return d;
  }
  return -1;
}

/// Makes every slice of the repeated dim equal to the first.
void repeat_first_slice(std::vector<double>& values, const Shape& shape) {
  const int d = repeated_dim(shape);
  if (d < 0) return;
  const auto slice = static_cast<std::size_t>(contiguous_strides(shape)[d]);
  for (std::size_t i = slice; i < values.size(); ++i) values[i] = values[i % slice];
}

Tensor round_trip(const std::vector<double>& values, const Shape& shape, DType dtype) {
  return from_vector(values, shape).to(dtype);
}

struct Inputs {
  std::vector<Array> arrays;    ///< as rounded to the dtype
  std::vector<Tensor> tensors;  ///< leaves; for Layout::broadcast they have size 1 in the repeated dim
};

Inputs make_inputs(const OpCase& c, DType dtype, Layout layout, Device device) {
  Inputs in;
  for (std::size_t i = 0; i < c.inputs.size(); ++i) {
    const Shape& shape = c.inputs[i];
    auto values = random_values(static_cast<std::size_t>(numel(shape)), 1000 + i, c.low, c.high);
    if (c.prepare) c.prepare(i, values);
    if (layout == Layout::broadcast) repeat_first_slice(values, shape);
    const Tensor rounded = round_trip(values, shape, dtype);
    in.arrays.push_back({shape, rounded.to_doubles()});
    Tensor t;
    if (layout == Layout::broadcast && repeated_dim(shape) >= 0) {
      t = rounded.narrow(repeated_dim(shape), 0, 1).clone().to(device);
    } else {
      t = make_tensor(in.arrays.back().values, shape, dtype, layout, device);
    }
    in.tensors.push_back(t.requires_grad_(c.differentiable));
  }
  return in;
}

Tensor apply(const OpCase& c, const std::vector<Tensor>& leaves, Layout layout, KernelChoice kernel) {
  std::vector<Tensor> args;
  for (std::size_t i = 0; i < leaves.size(); ++i) {
    args.push_back(layout == Layout::broadcast ? leaves[i].expand(c.inputs[i]) : leaves[i]);
  }
  const Tensor result = c.function(args, kernel);
  note_kernels_run();
  return result;
}

/// Gradients of <w, function> for fixed w, as doubles.
std::vector<std::vector<double>> gradients(const OpCase& c, const std::vector<Tensor>& leaves, Layout layout,
                                           KernelChoice kernel) {
  const Tensor out = apply(c, leaves, layout, kernel);
  auto w = random_values(static_cast<std::size_t>(out.numel()), 77, -1, 1);
  for (double& v : w) v = std::round(v * 64) / 64;  // exact in every dtype, so that all are given the same direction
  const Tensor direction = from_vector(w, out.shape()).to(out.dtype()).to(out.device());
  std::vector<std::vector<double>> result;
  for (const Tensor& g : grad(out, leaves, direction, {}, /*allow_unused=*/true)) {
    EXPECT_TRUE(g.defined()) << "an input received no gradient";
    result.push_back(g.defined() ? g.to_doubles() : std::vector<double>());
  }
  return result;
}

double tolerance_of(const OpCase& c, DType dtype) {
  switch (dtype) {
    case DType::f64:
      return c.tolerance[0];
    case DType::f32:
      return c.tolerance[1];
    case DType::bf16:
      return c.tolerance[2];
    default:
      return c.tolerance[3];
  }
}

/// Kernels to run: one automatic run for ops without a choice; otherwise each family that has an implementation here.
std::vector<Kernel> kernels_of(const OpCase& c) {
  if (!c.has_kernels) return {Kernel::automatic};
  return {Kernel::reference, Kernel::fused, Kernel::flash};
}

/// Same values in f64: what the gradient ought to be.
std::vector<std::vector<double>> exact_gradients(const OpCase& c, const Inputs& in, Layout layout) {
  std::vector<Tensor> leaves;
  for (const Tensor& t : in.tensors) {
    leaves.push_back(t.detach().to(Device::cpu()).to(DType::f64).clone().requires_grad_());
  }
  return gradients(c, leaves, layout, c.has_kernels ? Kernel::reference : Kernel::automatic);
}

void check_one(const OpCase& c, Device device, DType dtype, Layout layout) {
  const Inputs in = make_inputs(c, dtype, layout, device);
  const Array expected = c.reference(in.arrays);
  const double tolerance = tolerance_of(c, dtype);
  std::vector<std::vector<double>> exact;
  if (c.differentiable) exact = exact_gradients(c, in, layout);
  double reference_error = tolerance;
  std::vector<double> reference_gradient_error(in.tensors.size(), tolerance);
  for (const Kernel kernel : kernels_of(c)) {
    SCOPED_TRACE(std::string("kernel ") + std::string(trinix::name(kernel)));
    Tensor out;
    try {
      out = apply(c, in.tensors, layout, kernel);
    } catch (const KernelUnavailable&) {
      if (kernel == Kernel::reference || kernel == Kernel::automatic) throw;
      continue;  // a family that does not exist for this op, device or dtype; its limits have tests of their own
    }
    EXPECT_EQ(out.shape(), expected.shape) << out.shape().to_string() << " vs " << expected.shape.to_string();
    const double error = relative_error(out.to_doubles(), expected.values);
    EXPECT_LE(error, std::max(tolerance, 2 * reference_error)) << "forward";
    if (kernel == Kernel::reference) reference_error = error;
    if (!c.differentiable) continue;
    const auto got = gradients(c, in.tensors, layout, kernel);
    for (std::size_t i = 0; i < got.size(); ++i) {
      const double gradient_error = relative_error(got[i], exact[i]);
      EXPECT_LE(gradient_error, std::max(tolerance, 2 * reference_gradient_error[i])) << "gradient of input " << i;
      if (kernel == Kernel::reference) reference_gradient_error[i] = gradient_error;
    }
    if (dtype == DType::f64 && device.is_cpu() && !only_memory_matters()) {
      const auto report =
          gradcheck([&](const std::vector<Tensor>& leaves) { return apply(c, leaves, layout, kernel); }, in.tensors);
      EXPECT_TRUE(report.ok) << report.message;
    }
  }
}

std::set<std::pair<std::string, std::string>>& kernels_seen() {
  static std::set<std::pair<std::string, std::string>> seen;
  return seen;
}

/// After the whole program has run: every registered implementation must have been run by some case.
class KernelCoverage : public ::testing::Environment {
 public:
  void TearDown() override {
    const bool everything_ran = ::testing::GTEST_FLAG(filter) == "*";
    if (!everything_ran) return;
    for (const KernelInfo& k : list_kernels()) {
      if (!is_available({k.device, 0})) continue;
      EXPECT_TRUE(kernels_seen().contains({k.op, k.name}))
          << "no test ran kernel '" << k.name << "' of op '" << k.op << "'";
    }
  }
};

[[maybe_unused]] const auto* const coverage = ::testing::AddGlobalTestEnvironment(new KernelCoverage);

}  // namespace

void note_kernel_left_out(const std::string& op, const std::string& kernel) { kernels_seen().emplace(op, kernel); }

void note_kernels_run() {
  static const std::vector<KernelInfo> all = list_kernels();
  for (const KernelInfo& k : all) {
    const std::string last = last_kernel(k.op);
    if (last == k.name) kernels_seen().emplace(k.op, k.name);
  }
}

/// Says so when half of every test here did not run.
TEST(Devices, CudaIsTestedToo) {
  try {
    static_cast<void>(backend_of(Device::cuda()));
  } catch (const DeviceError& e) {
    GTEST_SKIP() << "nothing was tested on CUDA: " << e.what();
  }
}

std::vector<double> random_values(std::size_t count, std::uint64_t seed, double low, double high) {
  std::vector<double> values(count);
  for (std::size_t i = 0; i < count; ++i) {
    values[i] = low + (high - low) * static_cast<double>(uniform_from_bits(philox(seed, i).x[0]));
  }
  return values;
}

Tensor make_tensor(const std::vector<double>& values, const Shape& shape, DType dtype, Layout layout, Device device) {
  const Tensor dense = round_trip(values, shape, dtype);
  switch (layout) {
    case Layout::contiguous:
      return dense.to(device);
    case Layout::transposed: {
      Dims reversed;
      for (int d = shape.size() - 1; d >= 0; --d) reversed.push_back(d);
      return dense.permute(reversed).contiguous().to(device).permute(reversed).detach();
    }
    case Layout::sliced: {
      Shape larger = shape;
      for (auto& n : larger) n = 2 * n + 1;
      // Whatever lies between the elements must not be read.
      Tensor picked = full(larger, std::numeric_limits<double>::quiet_NaN(), {dtype, device});
      for (int d = 0; d < shape.size(); ++d) picked = picked.slice(d, 1, larger[d], 2);
      picked.copy_(dense.to(device));
      return picked.detach();
    }
    case Layout::broadcast: {
      const int d = repeated_dim(shape);
      return d < 0 ? dense.to(device) : dense.to(device).narrow(d, 0, 1).expand(shape).detach();
    }
  }
  return dense;
}

Array to_array(const Tensor& t) { return {t.shape(), t.to_doubles()}; }

double relative_error(const std::vector<double>& a, const std::vector<double>& b) {
  if (a.size() != b.size()) return std::numeric_limits<double>::infinity();
  double difference = 0;
  double magnitude = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (std::isnan(a[i]) && std::isnan(b[i])) continue;
    if (std::isinf(b[i]) && a[i] == b[i]) continue;
    if (!std::isfinite(a[i]) || !std::isfinite(b[i])) return std::numeric_limits<double>::infinity();
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    magnitude += b[i] * b[i];
  }
  if (difference == 0) return 0;
  return magnitude == 0 ? std::numeric_limits<double>::infinity() : std::sqrt(difference / magnitude);
}

void run_op_case(const OpCase& c) {
  for (const Device device : test_devices()) {
    for (const DType dtype : c.dtypes) {
      for (const Layout layout : c.layouts) {
        SCOPED_TRACE(c.name + " on " + device.to_string() + ", " + std::string(trinix::name(dtype)) + ", " +
                     std::string(name(layout)));
        check_one(c, device, dtype, layout);
      }
    }
  }
}

bool only_memory_matters() {
  static const bool asked = std::getenv("TRINIX_TEST_MEMORY_ONLY") != nullptr;
  return asked;
}

}  // namespace trinix::testing
