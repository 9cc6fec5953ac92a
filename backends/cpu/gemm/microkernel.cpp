#include <array>
#include <utility>

#include <trinix/backends/cpu/gemm/microkernel.h>

namespace trinix::cpu::internal {

template <class T>
Microkernel<T> microkernel_for(int rows, int vecs) {
  static constexpr auto table = []<int... R>(std::integer_sequence<int, R...>) {
    return std::array{std::array<Microkernel<T>, 2>{microkernel<T, T, R + 1, 1>, microkernel<T, T, R + 1, 2>}...};
  }
  (std::make_integer_sequence<int, Tile::rows>{});
  return table[rows - 1][vecs - 1];
}

template Microkernel<float> microkernel_for<float>(int, int);
template Microkernel<double> microkernel_for<double>(int, int);

}  // namespace trinix::cpu::internal
