// SPDX-License-Identifier: Apache-2.0
// XD_TSAN and XD_ASAN: 1 if this file is compiled for that sanitizer, else 0, with g++ and clang.
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
