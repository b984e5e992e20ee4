// SPDX-License-Identifier: Apache-2.0
// Which sanitizer this file is compiled for: XD_TSAN and XD_ASAN are 1 or 0 under g++ and clang alike.
#pragma once

#if defined(__SANITIZE_THREAD__)
#define XD_TSAN 1
#endif
#if defined(__SANITIZE_ADDRESS__)
#define XD_ASAN 1
#endif
#if defined(__has_feature)
#if __has_feature(thread_sanitizer) && !defined(XD_TSAN)
#define XD_TSAN 1
#endif
#if __has_feature(address_sanitizer) && !defined(XD_ASAN)
#define XD_ASAN 1
#endif
#endif
#ifndef XD_TSAN
#define XD_TSAN 0
#endif
#ifndef XD_ASAN
#define XD_ASAN 0
#endif
