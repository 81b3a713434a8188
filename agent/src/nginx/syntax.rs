//! Pure: the text of `nginx -T` to a tree of directives, includes resolved in context.
