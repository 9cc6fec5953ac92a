#pragma once

#include <cstdint>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <trinix/core/half.h>

/// @file
/// Matrix products of one warp on the tensor cores, from sm_80 on: the instructions mma.sync, ldmatrix and cp.async
/// (PTX ISA, sections "Warp-level matrix instructions" and "cp.async"), and the layout in shared memory that feeds them
/// without bank conflicts.
///
/// mma.sync.m16n8k16 computes D = A B + D with A 16 x 16, B 16 x 8 (16-bit elements) and D 16 x 8 (f32), spread over
/// the 32 lanes. With g = lane / 4 and t = lane % 4 a lane holds
///   D[0..3]: (g, 2t), (g, 2t+1), (g+8, 2t), (g+8, 2t+1),
///   A[0..3]: pairs of columns 2t, 2t+1 of row g, of row g+8, and columns 2t+8, 2t+9 of row g, of row g+8,
///   B[0..1]: pairs of rows 2t, 2t+1 of column g, and rows 2t+8, 2t+9 of column g.
/// So two neighbouring accumulators D, rounded to 16 bits, are one A: a product's result feeds the next product without
/// leaving the registers, which attention uses for P V, and its backward for P^T dO and dS^T Q.

namespace trinix::cuda {

/// Address in the shared window, as the instructions below take it.
__device__ inline std::uint32_t shared_address(const void* p) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(p));
}

/// d += a b for one 16 x 8 x 16 step.
template <class T>
__device__ inline void mma(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1) {
  if constexpr (std::is_same_v<T, bfloat16>) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  } else {
    static_assert(std::is_same_v<T, float16>);
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
}

/// Four 8 x 8 matrices of 16-bit elements; lane l names row l % 8 of matrix l / 8. A lane receives from each matrix the
/// pair of columns 2t, 2t+1 of row g.
__device__ inline void load_matrices(std::uint32_t (&r)[4], std::uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}

/// The same with each matrix transposed: the pair of rows 2t, 2t+1 of column g.
__device__ inline void load_matrices_transposed(std::uint32_t (&r)[4], std::uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}

/// Starts to copy 16 bytes from global to shared memory; writes zeros, and reads nothing, where `there` is false.
__device__ inline void copy_async(std::uint32_t to, const void* from, bool there) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(there ? 16 : 0) : "memory");
}
/// Closes the group of copies started since the last one.
__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/// Waits until at most kGroups of this thread's groups are under way.
template <int kGroups>
__device__ inline void await_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kGroups) : "memory");
}

/// 2^x, relative error below 2^-22, 0 for -inf.
__device__ inline float fast_exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/// Two values rounded to 16 bits, the first in the lower half.
template <class T>
__device__ inline std::uint32_t pack_pair(float low, float high) {
  std::uint32_t r;
  if constexpr (std::is_same_v<T, bfloat16>) {
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  } else {
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  }
  return r;
}

/// A row-major matrix of 16-bit elements in shared memory, kColumns wide, its base on a 128-byte boundary.
///
/// ldmatrix reads 16-byte chunks of eight consecutive rows at once. At a pitch of 128 bytes those would all lie in the
/// same four banks, so the chunks of a row change places: chunk c of row r lies at c XOR (r mod 8). Where a row is not
/// a multiple of 128 bytes, chunks move within groups of four by (r / 2) mod 4, since two rows share the 32 banks.
template <int kColumns>
struct SharedTile {
  static_assert(kColumns % 32 == 0);
  static constexpr int kPitch = kColumns * 2;
  static constexpr int kChunks = kColumns / 8;
  static constexpr int kSpan = kPitch % 128 == 0 ? 128 : 64;  ///< bytes within which chunks change places

  __device__ static std::uint32_t offset(int row, int chunk) {
    const int swizzle = kSpan == 128 ? row & 7 : (row >> 1) & 3;
    return static_cast<std::uint32_t>(row * kPitch + ((chunk ^ swizzle) << 4));
  }

  /// The chunk `chunks` (even) to the right and `rows` (a multiple of 8) below the one at `address`, which must be in
  /// an even chunk's place or the one after it of a group: an XOR and a constant.
  __device__ static std::uint32_t step(std::uint32_t address, int rows, int chunks) {
    const int inner = (chunks * 16) & (kSpan - 1);
    return (address ^ static_cast<std::uint32_t>(inner)) +
           static_cast<std::uint32_t>(chunks * 16 - inner + rows * kPitch);
  }
};

/// Where a lane points in a 16 x 16 block that is read
///  - as A from rows, or as two B (columns 0-7, 8-15) from their transpose: load_matrices_transposed,
template <class Tile>
__device__ std::uint32_t lane_by_row(int lane) {
  return Tile::offset(lane % 16, lane / 16);
}
///  - as two B whose columns are the rows, or as A from its transpose: load_matrices_transposed.
template <class Tile>
__device__ std::uint32_t lane_by_column(int lane) {
  return Tile::offset(lane / 16 * 8 + lane % 8, lane / 8 % 2);
}

/// The same value, which the compiler may not know to be the same: what is computed from it in a loop is computed
/// there, instead of beforehand to wait in registers.
__device__ inline std::uint32_t kept_apart(std::uint32_t x) {
  asm volatile("" : "+r"(x));
  return x;
}

/// Adds four neighbouring floats (16-byte aligned) to global memory, in no fixed order.
__device__ inline void add_global(float* p, const float (&v)[4]) {
#if __CUDA_ARCH__ >= 900
  asm volatile("red.global.add.v4.f32 [%0], {%1,%2,%3,%4};" ::"l"(p), "f"(v[0]), "f"(v[1]), "f"(v[2]), "f"(v[3])
               : "memory");
#else
  for (int i = 0; i < 4; ++i) atomicAdd(p + i, v[i]);
#endif
}

}  // namespace trinix::cuda
