#pragma once

#include <cstdint>

#include <trinix/backends/cpu/gemm/simd.h>
#include <trinix/core/dtype.h>

/// @file
/// Packing of operands into panels. A panel is `width` rows of A, or columns of B ("lanes" below), stored side by side
/// for each step of the depth: out[p * width + lane]. The register tile then reads both operands from consecutive
/// addresses.

namespace trinix::cpu::internal {

/// Elements that packing may write beyond a panel whose width is no multiple of the vector's.
template <class T>
inline constexpr std::int64_t kPanelSlack = kWidth<T>;

/// Part of an operand, in its storage type.
struct PackSource {
  const void* data = nullptr;
  DType dtype = DType::f32;
  std::int64_t lane_stride = 0;   ///< elements between rows of A, or columns of B
  std::int64_t depth_stride = 0;  ///< elements between steps of the depth
};

/// Packs one panel: lanes [lane, lane + lanes) and steps [step, step + depth) of the operand; lanes up to `width` are
/// zero. `total_lanes` is where the operand ends. `out` needs depth * width elements and kPanelSlack more.
template <class T>
using PackPanel = void (*)(const PackSource&, std::int64_t lane, std::int64_t lanes, std::int64_t total_lanes,
                           std::int64_t step, std::int64_t depth, std::int64_t width, T* out);

/// The function for a storage type; null where T does not hold its values. T is float or double.
template <class T>
[[nodiscard]] PackPanel<T> pack_panel_for(DType storage);

/// A run of lanes to be packed as panels of `width`, panel_stride elements apart.
struct PackRegion {
  std::int64_t lane = 0;
  std::int64_t lanes = 0;
  std::int64_t total_lanes = 0;  ///< where the operand ends
  std::int64_t step = 0;
  std::int64_t depth = 0;
  std::int64_t width = 0;
  std::int64_t panel_stride = 0;
};

/// Packs share `part` of `parts` of a region. Where lanes lie side by side, a few steps of all panels are packed at a
/// time, so that every page and cache line of the operand is visited once; otherwise the whole depth of a panel.
/// With more than one part, `width` must be a multiple of the vector's, for the parts not to spill into each other.
template <class T>
void pack_panels(const PackSource& source, const PackRegion& r, T* out, std::int64_t part = 0, std::int64_t parts = 1);

}  // namespace trinix::cpu::internal
