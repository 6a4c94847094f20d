#include "tokenizer/tokenizer.h"

#include <string.h>

/* Node 0 ends every list: it is child and sibling of those that have none. */
typedef struct node {
    uint32_t child, sibling; /* nodes */
    uint32_t token;          /* index of the token that ends here, NO_ID: none */
    uint8_t byte;
} node;

static node *nodes(const added_tree *tree) {
    return (node *)(void *)tree->nodes.data;
}

static uint32_t find_sibling(const added_tree *tree, uint32_t first, uint8_t byte) {
    while (first && nodes(tree)[first].byte != byte) first = nodes(tree)[first].sibling;
    return first;
}

static uint32_t add_node(added_tree *tree, uint8_t byte, uint32_t sibling) {
    node *n = xft_array_extend(&tree->nodes, sizeof *n);
    if (!n) return 0;
    *n = (node){.sibling = sibling, .token = NO_ID, .byte = byte};
    return (uint32_t)(n - nodes(tree));
}

void xft_added_tree_put(added_tree *tree, const char *content, size_t size, const added_token *token) {
    if (tree->nodes.size == 0) add_node(tree, 0, 0);
    uint32_t at = 0;
    for (size_t i = 0; i < size; i++) {
        uint8_t byte = (uint8_t)content[i];
        uint32_t first = i ? nodes(tree)[at].child : tree->roots[byte], next = find_sibling(tree, first, byte);
        if (!next) {
            next = add_node(tree, byte, first);
            if (!next) return;
            if (i)
                nodes(tree)[at].child = next;
            else
                tree->roots[byte] = next;
        }
        at = next;
    }
    if (!at || nodes(tree)[at].token != NO_ID) return;
    nodes(tree)[at].token = (uint32_t)(tree->tokens.size / sizeof *token);
    xft_array_append(&tree->tokens, token, sizeof *token);
}

void xft_added_tree_free(added_tree *tree) {
    xft_array_free(&tree->nodes);
    xft_array_free(&tree->tokens);
}

/* The longest token that begins at `start`, or NULL. */
static const added_token *longest(const added_tree *tree, const char *text, size_t size, size_t start, size_t *end) {
    uint32_t best = NO_ID, at = tree->roots[(uint8_t)text[start]];
    for (size_t i = start; at;) {
        const node *n = &nodes(tree)[at];
        i++;
        if (n->token != NO_ID) {
            best = n->token;
            *end = i;
        }
        at = i < size ? find_sibling(tree, n->child, (uint8_t)text[i]) : 0;
    }
    return best == NO_ID ? NULL : (const added_token *)(const void *)tree->tokens.data + best;
}

static bool stands_alone(const char *text, size_t size, size_t start, size_t end) {
    size_t length;
    return (start == 0 || !xft_is_word(xft_utf8_read(text + xft_utf8_before(text, start), &length))) &&
           (end == size || !xft_is_word(xft_utf8_read(text + end, &length)));
}

static size_t skip_space_back(const char *text, size_t start, size_t limit) {
    size_t length, before;
    while (start > limit && xft_is_white_space(xft_utf8_read(text + (before = xft_utf8_before(text, start)), &length)))
        start = before;
    return start;
}

static size_t skip_space(const char *text, size_t size, size_t end) {
    size_t length;
    while (end < size && xft_is_white_space(xft_utf8_read(text + end, &length))) end += length;
    return end;
}

/* Space swallowed by rstrip may hold a further match: it counts, and what follows it begins behind it, so that `done`
 * may go back. That is what the reference does. */
xft_status xft_added_tree_scan(const added_tree *tree, const char *text, size_t size, added_found found, void *user) {
    size_t done = 0, position = 0;
    while (position < size && tree->tokens.size) {
        size_t start = position, end = 0;
        const added_token *token = longest(tree, text, size, start, &end);
        position = token ? end : position + 1;
        if (!token || (token->single_word && !stands_alone(text, size, start, end))) continue;
        if (token->lstrip) start = skip_space_back(text, start, done);
        if (token->rstrip) end = skip_space(text, size, end);
        xft_status status = done < start ? found(user, text, done, start, NULL) : XFT_OK;
        if (status == XFT_OK) status = found(user, text, start, end, token);
        if (status != XFT_OK) return status;
        done = end;
    }
    return done < size ? found(user, text, done, size, NULL) : XFT_OK;
}
