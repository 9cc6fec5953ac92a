#include <trinix/core/backend.h>
#include <trinix/tools/lib/throughput.h>

namespace trinix::tools {

namespace {

/// Rates in TFLOP/s from the vendor's data sheets: bf16 and f16 matrices with f32 sums, f32 outside of tensor cores
/// (TF32 is not used unless asked for), f64.
struct Card {
  std::string_view part_of_name;
  double half, single, full;
};

// The first entry that occurs in the name counts, so the special ones stand before the general.
constexpr Card kCards[] = {
    {"B200", 2250, 75, 37},    {"H200 NVL", 835, 60, 60},  {"H200", 989, 67, 67},        {"GH200", 989, 67, 67},
    {"H100 NVL", 835, 60, 60}, {"H100 PCIe", 756, 51, 51}, {"H100", 989, 67, 67},        {"A100", 312, 19.5, 19.5},
    {"A30", 165, 10.3, 10.3},  {"L40S", 362, 91.6, 1.4},   {"L40", 181, 90.5, 1.4},      {"L4", 121, 30.3, 0.5},
    {"A10", 125, 31.2, 0.5},   {"RTX 4090", 165, 83, 1.3}, {"RTX 3090", 71, 35.6, 0.56}, {"RTX 5090", 209, 105, 1.6},
};

}  // namespace

double flops_per_token(const nn::LanguageModel& model) {
  const nn::LanguageModelShape& s = model.shape();
  return 6.0 * static_cast<double>(model.num_parameters()) + 12.0 * static_cast<double>(s.layers) *
                                                                 static_cast<double>(s.attention_width) *
                                                                 static_cast<double>(s.block_size);
}

std::optional<double> peak_tflops(std::string_view card, DType dtype) {
  for (const Card& c : kCards) {
    if (card.find(c.part_of_name) == std::string_view::npos) continue;
    return dtype == DType::f64 ? c.full : dtype == DType::f32 ? c.single : c.half;
  }
  return std::nullopt;
}

std::string card_name(Device device) {
  if (device.is_cpu()) return {};
  const std::string text = backend_of(device).describe(device.index);
  return text.substr(0, text.find(','));
}

}  // namespace trinix::tools
