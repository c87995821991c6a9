/* The x86-64 program, as data (meson.build says which file). */
  .section .rodata
  .globl self_test_image, self_test_image_end
  .hidden self_test_image, self_test_image_end
  .balign 16
self_test_image:
  .incbin SELF_TEST_IMAGE
self_test_image_end:

  .section .note.GNU-stack, "", %progbits
