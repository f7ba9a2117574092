/* JSON is valid whatever bytes the strings have. */
#include "json.h"
#include <criterion/criterion.h>

Test(json, nesting_and_commas)
{
    Json json = {.text = g_string_new(NULL)};
    json_begin_object(&json, NULL);
    json_put_int(&json, "a", UINT64_C(1) << 40);
    json_begin_array(&json, "list");
    json_put_bool(&json, NULL, true);
    json_begin_object(&json, NULL);
    json_end_object(&json);
    json_end_array(&json);
    json_begin_array(&json, "none");
    json_end_array(&json);
    json_end_object(&json);
    cr_expect_str_eq(json.text->str, "{\n"
                                     "    \"a\": 1099511627776,\n"
                                     "    \"list\": [\n"
                                     "        true,\n"
                                     "        {}\n"
                                     "    ],\n"
                                     "    \"none\": []\n"
                                     "}");
    g_string_free(json.text, TRUE);
}

Test(json, strings_are_quoted)
{
    static const struct {
        const char *value, *text;
    } cases[] = {
        {"", "\"\""},
        {"a\"b\\c", "\"a\\\"b\\\\c\""},
        {"\n\033\177", "\"\\u000a\\u001b\\u007f\""},
        {"\303\274", "\"\303\274\""},
        {"a\302\2332J", "\"a\\u009b2J\""},
        {"\302\237\302\240", "\"\\u009f\302\240\""}, /* the last of them, a space */
        {"\342\202\233", "\"\342\202\233\""},        /* its last byte is no character */
        {"\377", "\"\357\277\275\""},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        Json json = {.text = g_string_new(NULL)};
        json_put_string(&json, NULL, cases[i].value);
        cr_expect_str_eq(json.text->str, cases[i].text);
        g_string_free(json.text, TRUE);
    }
}
