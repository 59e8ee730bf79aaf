"""Masks outside the model: encodings, files, shapes and pictures, in NumPy without torch.

A mask is ``bool [H, W]``. Several objects are a mapping from object id to mask, or an array ``[N, H, W]``
whose objects are numbered 1..N. Coordinates are pixels, x then y, where pixel (x, y) covers the square from
(x, y) to (x + 1, y + 1).

- ``inputs``: what counts as a mask, and the errors for what does not
- ``geometry``: boxes, area, IoU, points inside, clean-up, dilation
- ``rle``: COCO run-length encoding, plain and compressed
- ``polygons``: exact outlines with holes, simplification, rasterisation
- ``files``: writing a file aside and renaming it
- ``png``: indexed and binary PNG, cut-outs, reading any picture as a mask
- ``coco``, ``yolo``: annotation files
- ``overlay``, ``marks``, ``sheets``: masks, clicks, boxes and labels over a picture; sheets of pictures
"""
