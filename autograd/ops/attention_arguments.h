#pragma once

#include <trinix/autograd/ops/attention.h>
#include <trinix/core/ops/attention.h>

/// @file
/// What attention is given, checked and brought into the form of its contract. Private.

namespace trinix {

/// The lengths of sequences that lie one after another; undefined for a batch.
struct SequenceStarts {
  Tensor query;
  Tensor key;
  std::int64_t longest_query = 0;
  std::int64_t longest_key = 0;
};

/// Everything beside q, k and v.
struct AttentionExtras {
  Tensor alibi;  ///< (B or 1, H)
  Tensor mask;   ///< (B or 1, H or 1, Sq, Sk)
  SequenceStarts starts;
};

/// Checks operands (B, S, H, D) against each other. @throws ShapeError, DtypeError, DeviceError.
void check_attention_operands(const char* op, const Tensor& q, const Tensor& k, const Tensor& v);

/// Checks operands (total, H, D) and the starts. @throws ShapeError, DtypeError, DeviceError, ConfigError.
void check_attention_sequences(const char* op, const Tensor& q, const Tensor& k, const Tensor& v,
                               const SequenceStarts& starts);

/// Checks the options against queries and keys of these shapes, (B, S, H, D), and brings them into form. The mask keeps
/// its history. @throws ConfigError, ShapeError, DtypeError, DeviceError, AutogradError.
AttentionExtras attention_extras(const char* op, const View& q, const View& k, const AttentionOptions& options,
                                 const SequenceStarts& starts);

/// The contract's arguments; draws the random numbers.
Attention::Inputs attention_inputs(const View& q, const View& k, const View& v, const AttentionOptions& options,
                                   const AttentionExtras& extras);

/// Number of sequences: the size of the batch where there are no starts.
std::int64_t attention_batch(const Attention::Inputs& in);

}  // namespace trinix
