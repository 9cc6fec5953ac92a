#include <algorithm>
#include <cstring>

#include <trinix/backends/cuda/launch.cuh>
#include <trinix/backends/cuda/write.h>

namespace trinix::cuda {

namespace {

template <int kBytes>
struct Packet {
  unsigned char at[kBytes];
};

template <int kBytes>
__global__ void write_kernel(const __grid_constant__ Packet<kBytes> packet, unsigned char* to, int bytes) {
  for (int i = static_cast<int>(threadIdx.x); i < bytes; i += static_cast<int>(blockDim.x)) to[i] = packet.at[i];
}

template <int kBytes>
void write_packet(unsigned char* to, const unsigned char* from, std::size_t bytes, const Stream& stream) {
  Packet<kBytes> packet{};
  std::memcpy(packet.at, from, bytes);
  launch("write", write_kernel<kBytes>, {.grid = dim3(1), .block = dim3(256)}, stream, packet, to,
         static_cast<int>(bytes));
}

}  // namespace

void write_bytes(void* to, const void* from, std::size_t bytes, const Stream& stream) {
  constexpr std::size_t kLittle = 64;
  constexpr std::size_t kMuch = 3072;  // arguments of a kernel are at most 4096 bytes
  auto* target = static_cast<unsigned char*>(to);
  const auto* source = static_cast<const unsigned char*>(from);
  for (std::size_t done = 0; done < bytes;) {
    const std::size_t part = std::min(bytes - done, kMuch);
    part <= kLittle ? write_packet<kLittle>(target + done, source + done, part, stream)
                    : write_packet<kMuch>(target + done, source + done, part, stream);
    done += part;
  }
}

}  // namespace trinix::cuda
