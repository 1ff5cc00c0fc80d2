/*
 * t_bytes.c - numbers as they lie in files, and the checksum against its published value and a slower one
 */
#include "base/bytes.h"

#include <check.h>
#include <string.h>

Suite *t_bytes_suite(void);

static uint32_t by_bit(const uint8_t *p, size_t n)
{
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82F63B78 : 0);
    }
    return ~crc;
}

START_TEST(numbers)
{
    const uint8_t data[] = { 0xFF, 1, 2, 3, 4, 5, 6, 7, 8 };
    ck_assert_uint_eq(bytes_get16(data + 1), 0x0201);
    ck_assert_uint_eq(bytes_get32(data + 1), 0x04030201);
    ck_assert_uint_eq(bytes_get64(data + 1), UINT64_C(0x0807060504030201));
}
END_TEST

START_TEST(checksum)
{
    uint8_t data[100];
    ck_assert_uint_eq(bytes_crc_end(bytes_crc_add(BYTES_CRC_INIT, "123456789", 9)), 0xE3069283);
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i * 37 + 11);
    for (size_t from = 0; from < 9; from++)
        for (size_t n = 0; from + n <= sizeof(data); n++) {
            uint32_t parts = bytes_crc_add(bytes_crc_add(BYTES_CRC_INIT, data + from, n / 3),
                                           data + from + n / 3, n - n / 3);
            ck_assert_uint_eq(bytes_crc_end(parts), by_bit(data + from, n));
        }
}
END_TEST

Suite *t_bytes_suite(void)
{
    Suite *s = suite_create("bytes");
    TCase *c = tcase_create("bytes");

    tcase_add_test(c, numbers);
    tcase_add_test(c, checksum);
    suite_add_tcase(s, c);
    return s;
}
