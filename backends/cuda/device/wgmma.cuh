#pragma once

#include <cstdint>

#include <trinix/core/half.h>

/// @file
/// Matrix products of a warpgroup, four warps, on the tensor cores of sm_90a (PTX ISA, "wgmma.mma_async"). D = A B + D
/// with A 64 x 16, B 16 x N (16-bit elements) and D 64 x N (f32). B lies in shared memory, A there or in registers. The
/// product runs on its own: between commit_products() and await_products() nobody may touch its registers.
///
/// Warp w of the group has rows 16 w to 16 w + 15 of D and A, spread over its lanes as mma.sync spreads 16 rows
/// (mma.cuh): d[n][0..3] are (g, 8n+2t), (g, 8n+2t+1), (g+8, 8n+2t), (g+8, 8n+2t+1). So here, too, accumulators rounded
/// to 16 bits are an A.
///
/// A tile in shared memory is made of panels of 64 columns, [panel][row][64], a row of 128 bytes, whose 16-byte chunks
/// change places, chunk c of row r to c XOR (r mod 8), as the copy engine does it with CU_TENSOR_MAP_SWIZZLE_128B;
/// panels begin at multiples of 1024 bytes.

namespace trinix::cuda {

/// Bytes of a panel's row.
inline constexpr int kPanelPitch = 128;

/// Describes an operand whose rows are the rows (or columns, for B) of the product and whose columns are summed over:
/// one step of 16 columns. The next step in the panel lies 32 bytes on.
/// @param address of row 0, a multiple of 8 rows from the panel's begin, plus 32 bytes per step
__device__ inline std::uint64_t rows_operand(std::uint32_t address) {
  constexpr std::uint64_t kEightRows = 8 * kPanelPitch;
  constexpr std::uint64_t kSwizzle128 = 1;
  return (address & 0x3FFFF) >> 4 | (kEightRows >> 4) << 32 | kSwizzle128 << 62;
}

/// Describes an operand whose rows are summed over and whose columns are those (or the rows, for A) of the product: one
/// step of 16 rows. The next step lies 16 rows on.
/// @param panel_bytes from one panel of 64 columns to the next
__device__ inline std::uint64_t columns_operand(std::uint32_t address, int panel_bytes) {
  return rows_operand(address) | static_cast<std::uint64_t>(panel_bytes >> 4) << 16;
}

/// Orders what was written to registers before what products read from them.
__device__ inline void begin_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
/// Closes the group of products started since the last one.
__device__ inline void commit_products() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
/// Waits until at most kGroups of the warpgroup's groups are under way.
template <int kGroups>
__device__ inline void await_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kGroups) : "memory");
}

/// Which warpgroup of the block this is, in a form that the compiler knows to be the same for all of a warp: addresses of
/// operands are then computed once per warp.
__device__ inline int warpgroup_index() { return __shfl_sync(0xffffffffU, static_cast<int>(threadIdx.x) / 128, 0); }

/// Keeps the compiler from moving uses of registers across this place: to stand after the wait for the product that
/// writes them, and before one that does.
template <int kN>
__device__ inline void pin(float (&d)[kN][4]) {
#pragma unroll
  for (int n = 0; n < kN; ++n) {
#pragma unroll
    for (int e = 0; e < 4; ++e) asm volatile("" : "+f"(d[n][e])::"memory");
  }
}
template <int kN>
__device__ inline void pin(std::uint32_t (&a)[kN][4]) {
#pragma unroll
  for (int n = 0; n < kN; ++n) {
#pragma unroll
    for (int e = 0; e < 4; ++e) asm volatile("" : "+r"(a[n][e])::"memory");
  }
}

/// Stores four 8 x 8 matrices of 16-bit elements as load_matrices() of mma.cuh reads them.
__device__ inline void store_matrices(std::uint32_t address, const std::uint32_t (&r)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1,%2,%3,%4};" ::"r"(address), "r"(r[0]), "r"(r[1]),
               "r"(r[2]), "r"(r[3])
               : "memory");
}

/// Registers of this warpgroup, given back or taken from what others gave back. Every role of a kernel is one branch.
template <int kRegisters>
__device__ inline void shrink_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ inline void grow_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

/// How an operand in shared memory lies: rows_operand() or columns_operand().
enum class Lies : int { by_rows = 0, by_columns = 1 };

// The operands of an instruction cannot be made by a template: one function per width, from these lists.
#define TRINIX_D4(i) "+f"(d[i][0]), "+f"(d[i][1]), "+f"(d[i][2]), "+f"(d[i][3])
#define TRINIX_D16(i) TRINIX_D4(i), TRINIX_D4(i + 1), TRINIX_D4(i + 2), TRINIX_D4(i + 3)
#define TRINIX_REGISTERS_16  \
  "%0,%1,%2,%3,%4,%5,%6,%7," \
  "%8,%9,%10,%11,%12,%13,%14,%15"
#define TRINIX_REGISTERS_32          \
  "%0,%1,%2,%3,%4,%5,%6,%7,"         \
  "%8,%9,%10,%11,%12,%13,%14,%15,"   \
  "%16,%17,%18,%19,%20,%21,%22,%23," \
  "%24,%25,%26,%27,%28,%29,%30,%31"
#define TRINIX_REGISTERS_48          \
  "%0,%1,%2,%3,%4,%5,%6,%7,"         \
  "%8,%9,%10,%11,%12,%13,%14,%15,"   \
  "%16,%17,%18,%19,%20,%21,%22,%23," \
  "%24,%25,%26,%27,%28,%29,%30,%31," \
  "%32,%33,%34,%35,%36,%37,%38,%39," \
  "%40,%41,%42,%43,%44,%45,%46,%47"
#define TRINIX_REGISTERS_64          \
  "%0,%1,%2,%3,%4,%5,%6,%7,"         \
  "%8,%9,%10,%11,%12,%13,%14,%15,"   \
  "%16,%17,%18,%19,%20,%21,%22,%23," \
  "%24,%25,%26,%27,%28,%29,%30,%31," \
  "%32,%33,%34,%35,%36,%37,%38,%39," \
  "%40,%41,%42,%43,%44,%45,%46,%47," \
  "%48,%49,%50,%51,%52,%53,%54,%55," \
  "%56,%57,%58,%59,%60,%61,%62,%63"

/// Starts d += A B, or d = A B unless `accumulate`, for one step of 16; A and B in shared memory.
template <class T, Lies kA, Lies kB>
__device__ inline void multiply(float (&d)[4][4], std::uint64_t a, std::uint64_t b, bool accumulate) {
  if constexpr (std::is_same_v<T, bfloat16>) {
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %18, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n32k16.f32.bf16.bf16 {" TRINIX_REGISTERS_16
        "}, %16, %17, p, 1, 1, %19, %20;\n}"
        : TRINIX_D16(0)
        : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)), "n"(static_cast<int>(kA)), "n"(static_cast<int>(kB)));
  } else {
    static_assert(std::is_same_v<T, float16>);
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %18, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n32k16.f32.f16.f16 {" TRINIX_REGISTERS_16 "}, %16, %17, p, 1, 1, %19, %20;\n}"
        : TRINIX_D16(0)
        : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)), "n"(static_cast<int>(kA)), "n"(static_cast<int>(kB)));
  }
}

template <class T, Lies kA, Lies kB>
__device__ inline void multiply(float (&d)[8][4], std::uint64_t a, std::uint64_t b, bool accumulate) {
  if constexpr (std::is_same_v<T, bfloat16>) {
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %34, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" TRINIX_REGISTERS_32
        "}, %32, %33, p, 1, 1, %35, %36;\n}"
        : TRINIX_D16(0), TRINIX_D16(4)
        : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)), "n"(static_cast<int>(kA)), "n"(static_cast<int>(kB)));
  } else {
    static_assert(std::is_same_v<T, float16>);
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %34, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 {" TRINIX_REGISTERS_32 "}, %32, %33, p, 1, 1, %35, %36;\n}"
        : TRINIX_D16(0), TRINIX_D16(4)
        : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)), "n"(static_cast<int>(kA)), "n"(static_cast<int>(kB)));
  }
}

template <class T, Lies kA, Lies kB>
__device__ inline void multiply(float (&d)[12][4], std::uint64_t a, std::uint64_t b, bool accumulate) {
  if constexpr (std::is_same_v<T, bfloat16>) {
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %50, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n96k16.f32.bf16.bf16 {" TRINIX_REGISTERS_48
        "}, %48, %49, p, 1, 1, %51, %52;\n}"
        : TRINIX_D16(0), TRINIX_D16(4), TRINIX_D16(8)
        : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)), "n"(static_cast<int>(kA)), "n"(static_cast<int>(kB)));
  } else {
    static_assert(std::is_same_v<T, float16>);
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %50, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n96k16.f32.f16.f16 {" TRINIX_REGISTERS_48 "}, %48, %49, p, 1, 1, %51, %52;\n}"
        : TRINIX_D16(0), TRINIX_D16(4), TRINIX_D16(8)
        : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)), "n"(static_cast<int>(kA)), "n"(static_cast<int>(kB)));
  }
}

template <class T, Lies kA, Lies kB>
__device__ inline void multiply(float (&d)[16][4], std::uint64_t a, std::uint64_t b, bool accumulate) {
  if constexpr (std::is_same_v<T, bfloat16>) {
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %66, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" TRINIX_REGISTERS_64
        "}, %64, %65, p, 1, 1, %67, %68;\n}"
        : TRINIX_D16(0), TRINIX_D16(4), TRINIX_D16(8), TRINIX_D16(12)
        : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)), "n"(static_cast<int>(kA)), "n"(static_cast<int>(kB)));
  } else {
    static_assert(std::is_same_v<T, float16>);
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %66, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 {" TRINIX_REGISTERS_64 "}, %64, %65, p, 1, 1, %67, %68;\n}"
        : TRINIX_D16(0), TRINIX_D16(4), TRINIX_D16(8), TRINIX_D16(12)
        : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)), "n"(static_cast<int>(kA)), "n"(static_cast<int>(kB)));
  }
}

/// The same with A in registers.
template <class T, Lies kB>
__device__ inline void multiply(float (&d)[8][4], const std::uint32_t (&a)[4], std::uint64_t b, bool accumulate) {
  if constexpr (std::is_same_v<T, bfloat16>) {
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %37, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" TRINIX_REGISTERS_32
        "}, {%32,%33,%34,%35}, %36, p, 1, 1, %38;\n}"
        : TRINIX_D16(0), TRINIX_D16(4)
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(accumulate)),
          "n"(static_cast<int>(kB)));
  } else {
    static_assert(std::is_same_v<T, float16>);
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %37, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 {" TRINIX_REGISTERS_32
        "}, {%32,%33,%34,%35}, %36, p, 1, 1, %38;\n}"
        : TRINIX_D16(0), TRINIX_D16(4)
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(accumulate)),
          "n"(static_cast<int>(kB)));
  }
}

template <class T, Lies kB>
__device__ inline void multiply(float (&d)[12][4], const std::uint32_t (&a)[4], std::uint64_t b, bool accumulate) {
  if constexpr (std::is_same_v<T, bfloat16>) {
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %53, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n96k16.f32.bf16.bf16 {" TRINIX_REGISTERS_48
        "}, {%48,%49,%50,%51}, %52, p, 1, 1, %54;\n}"
        : TRINIX_D16(0), TRINIX_D16(4), TRINIX_D16(8)
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(accumulate)),
          "n"(static_cast<int>(kB)));
  } else {
    static_assert(std::is_same_v<T, float16>);
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %53, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n96k16.f32.f16.f16 {" TRINIX_REGISTERS_48
        "}, {%48,%49,%50,%51}, %52, p, 1, 1, %54;\n}"
        : TRINIX_D16(0), TRINIX_D16(4), TRINIX_D16(8)
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(accumulate)),
          "n"(static_cast<int>(kB)));
  }
}

template <class T, Lies kB>
__device__ inline void multiply(float (&d)[16][4], const std::uint32_t (&a)[4], std::uint64_t b, bool accumulate) {
  if constexpr (std::is_same_v<T, bfloat16>) {
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %69, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" TRINIX_REGISTERS_64
        "}, {%64,%65,%66,%67}, %68, p, 1, 1, %70;\n}"
        : TRINIX_D16(0), TRINIX_D16(4), TRINIX_D16(8), TRINIX_D16(12)
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(accumulate)),
          "n"(static_cast<int>(kB)));
  } else {
    static_assert(std::is_same_v<T, float16>);
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %69, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 {" TRINIX_REGISTERS_64
        "}, {%64,%65,%66,%67}, %68, p, 1, 1, %70;\n}"
        : TRINIX_D16(0), TRINIX_D16(4), TRINIX_D16(8), TRINIX_D16(12)
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(accumulate)),
          "n"(static_cast<int>(kB)));
  }
}

#undef TRINIX_D4
#undef TRINIX_D16
#undef TRINIX_REGISTERS_16
#undef TRINIX_REGISTERS_32
#undef TRINIX_REGISTERS_48
#undef TRINIX_REGISTERS_64

}  // namespace trinix::cuda
